# SPDX-License-Identifier: Apache-2.0
"""The lines on stdout: one for each case, as TAP, and a closing count."""

import sys
import threading
import time
import traceback


class Failure(Exception):
    """A case went wrong; the text is for the person who reads the report."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


class Report:
    """May be used from several threads; a result's lines stay together."""

    def __init__(self, stream=sys.stdout):
        self.stream = stream
        self.lock = threading.RLock()
        self.passed = 0
        self.failed = 0

    def say(self, text):
        """Print lines that are no results."""
        with self.lock:
            for line in str(text).rstrip("\n").split("\n"):
                print(f"# {line}", file=self.stream, flush=True)

    def passes(self, name, seconds=None):
        took = "" if seconds is None else f" # {seconds:.1f} s"
        with self.lock:
            self.passed += 1
            print(f"ok {self.passed + self.failed} - {name}{took}", file=self.stream, flush=True)

    def fails(self, name, why, details=""):
        with self.lock:
            self.failed += 1
            print(f"not ok {self.passed + self.failed} - {name}", file=self.stream, flush=True)
            self.say(why)
            if details:
                self.say(details)

    def check(self, name, function, *args):
        """Run `function`: one result, whatever it does. Tells whether it passed."""
        start = time.monotonic()
        try:
            function(*args)
        except Failure as failure:
            self.fails(name, failure, failure.details)
            return False
        except Exception as error:  # pylint: disable=broad-except
            self.fails(name, f"{type(error).__name__}: {error}")
            return False
        self.passes(name, time.monotonic() - start)
        return True

    def guard(self, name, function, *args):
        """Run `function`, which reports for itself: a failure only if it breaks."""
        try:
            function(*args)
        except Exception:  # pylint: disable=broad-except
            self.fails(f"{name}: the harness", "broke", traceback.format_exc())

    def close(self):
        """The closing line, and the exit code: running nothing is no success."""
        print(f"1..{self.passed + self.failed}", file=self.stream)
        print(f"{self.passed} passed, {self.failed} failed", file=self.stream, flush=True)
        return 0 if self.failed == 0 and self.passed > 0 else 1
