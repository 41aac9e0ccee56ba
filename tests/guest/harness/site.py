# SPDX-License-Identifier: Apache-2.0
"""Where a level is played: a folder, daemons that serve it, guests that mount it."""

import os

from .daemon import KINDS
from .guest import Guest, Hung
from .local import LocalGuest
from .qemu import QemuGuest
from .report import Failure
from .uml import UmlGuest


class Site:
    """Makes daemons and guests below `work_dir`, and ends all of them in the end."""

    opened = []
    ended = False

    def __init__(self, name, work_dir, tools, report, daemon_command, daemon_kind):
        self.name = name
        self.dir = f"{work_dir}/{name}"
        self.export = f"{self.dir}/export"
        self.tools = tools
        self.report = report
        self.daemon_command = daemon_command
        self.daemon_class = KINDS[daemon_kind]
        self.accelerator = "tcg"
        self.uml_options = {}
        self.qemu_options = {}
        # See bucket.py.
        self.bucket = None
        self.daemons = []
        self.guests = []
        self.count = 0
        os.makedirs(self.export)
        # A guest's user other than root must get at the cases' folders.
        os.chmod(self.export, 0o755)

    def __enter__(self):
        Site.opened.append(self)
        return self

    def __exit__(self, *_):
        Site.opened.remove(self)
        self.end()

    def end(self):
        for guest in self.guests:
            guest.kill()
        for daemon in self.daemons:
            daemon.kill()

    @classmethod
    def end_all(cls):
        """From another thread: end all that runs, and let nothing new begin."""
        cls.ended = True
        for site in list(cls.opened):
            for process in (*site.guests, *site.daemons):
                process.signal_kill()

    def next_path(self, what):
        self.count += 1
        return f"{self.dir}/{what}{self.count}"

    def daemon(self, **options):
        """A daemon of the export folder, started; `socket` and `cls` (of daemon) for
        a certain one, else an own socket and the class under test."""
        if Site.ended:
            raise Failure("ended by a signal")
        cls = options.pop("cls", self.daemon_class)
        socket = options.pop("socket", None) or self.next_path("daemon") + ".sock"
        daemon = cls(self.daemon_command, self.export, socket, **options)
        self.daemons.append(daemon)
        return daemon.start()

    def guest(self, kind, daemon=None, sockets=None, **options):
        """A guest on a daemon's socket (or several), not yet booted."""
        if sockets is None:
            sockets = {daemon.tag: daemon.socket}
        run_dir = self.next_path("guest")
        if kind == "local":
            guest = LocalGuest(run_dir, self.export, sockets, self.tools)
        elif kind == "uml":
            # The kernel asks the device how many queues it has.
            options.pop("queues", None)
            guest = UmlGuest(run_dir, self.export, sockets, self.tools,
                             **{**self.uml_options, **options})
        else:
            guest = QemuGuest(run_dir, self.export, sockets, self.tools,
                              accelerator=self.accelerator,
                              **{**self.qemu_options, **options})
        if self.bucket is not None:
            guest.bucket = self.bucket.remote
            guest.host_environment = dict(self.bucket.environment)
        self.guests.append(guest)
        return guest

    def run_cases(self, kind, cases, **options):
        """All cases in one boot; in another one from where a guest hung."""
        cases = self.suitable(kind, cases)
        left = list(cases)
        while left:
            daemons, guest = self.boot_for_cases(kind, left, **options)
            if guest is None:
                # Nothing is skipped silently: each of them did not pass.
                for case in left:
                    self.report.fails(f"{self.name}: {case.name}", "the guest did not come up")
                return
            while left and guest is not None:
                case = left.pop(0)
                if not self.report.check(f"{self.name}: {case.name}", self.run_case,
                                         guest, daemons, case):
                    # Whatever state a guest is in after a hang, the others
                    # deserve a new one; also when the daemon is gone.
                    if guest.hung or not all(daemon.alive() for daemon in daemons):
                        guest.kill()
                        guest = None
            if guest is not None:
                self.report.check(f"{self.name}: power off", guest.poweroff)
            for daemon in daemons:
                if self.bucket is not None and guest is not None:
                    # It has data to write still, perhaps.
                    self.report.check(f"{self.name}: the daemon ends", self.stop_well, daemon)
                daemon.kill()

    @staticmethod
    def stop_well(daemon):
        code = daemon.stop()
        if code != 0:
            raise Failure(f"exit code {code} on SIGTERM", daemon.log_tail())

    def suitable(self, kind, cases):
        suitable = []
        for case in cases:
            if case.debian and (kind == "qemu" or "wrapper" in self.uml_options):
                continue
            if case.readonly and (kind == "local" or not self.daemon_class.can_readonly):
                self.report.say(f"{self.name}: {case.name} is not for {kind} "
                                f"with {self.daemon_class.kind}")
                continue
            suitable.append(case)
        return suitable

    def boot_for_cases(self, kind, cases, **options):
        """Daemons and a guest that has mounted; (…, None) when that failed."""
        daemons = []
        guest = None

        def boot():
            nonlocal guest
            # More queues than the daemon has is an error of whoever starts both.
            queues = min(options.get("queues", 1), self.daemon_class.max_queues)
            if "queues" in options:
                options["queues"] = queues
            if kind != "local":
                daemons.append(self.daemon(queues=queues))
                if any(case.readonly for case in cases):
                    daemons.append(self.daemon(queues=queues, readonly=True, tag="ovfs-ro"))
            sockets = {daemon.tag: daemon.socket for daemon in daemons}
            guest = self.guest(kind, sockets=sockets, **options)
            guest.boot()
            guest.mount()

        if self.report.check(f"{self.name}: boot and mount", boot):
            return daemons, guest
        for daemon in daemons:
            self.report.say(daemon.log_tail())
        if guest is not None:
            guest.kill()
        return daemons, None

    @staticmethod
    def run_case(guest: Guest, daemons, case):
        try:
            guest.case(case)
        except Failure as failure:
            guest.hung = isinstance(failure, Hung)
            for daemon in daemons:
                if not daemon.alive():
                    failure.details += f"\nthe daemon ended, code {daemon.process.returncode}\n"
                elif guest.hung:
                    failure.details += "\n" + daemon.threads()
                failure.details += "\n" + daemon.log_tail()
            raise
