# SPDX-License-Identifier: Apache-2.0
"""ovfsctl and /metrics, as whoever operates the daemon sees them."""

import json
import re
import socket
import subprocess

from harness.report import Failure

ANSWER_S = 60
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ([^ ]+)$")
LABEL = re.compile(rf'({NAME})="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def tables(directory):
    """The configuration for it, to be given to Stage.mount()."""
    return {"ctl_settings": {"socket_path": f"{directory}/ctl.sock"},
            "metrics_settings": {"listen": f"unix:{directory}/metrics.sock"}}


class Operator:
    """For the one daemon of a stage that has tables(stage.dir)."""

    def __init__(self, stage):
        self.command = [stage.ground.ctl, f"--socket={stage.dir}/ctl.sock"]
        self.metrics_socket = f"{stage.dir}/metrics.sock"

    def start(self, *words):
        return subprocess.Popen([*self.command, *words], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, *words, wanted=0):
        done = subprocess.run([*self.command, *words], capture_output=True, text=True,
                              timeout=ANSWER_S, check=False)
        if done.returncode != wanted:
            raise Failure(f"ovfsctl {words}: exit status {done.returncode}, not {wanted}",
                          done.stdout + done.stderr)
        return done.stdout

    def ask(self, *words, wanted=0):
        """The result, from its JSON."""
        return json.loads(self.run("--json", *words, wanted=wanted)).get("result")

    def get(self, path):
        """Status and body of an HTTP request."""
        with socket.socket(socket.AF_UNIX) as http:
            http.settimeout(ANSWER_S)
            http.connect(self.metrics_socket)
            http.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while True:
                more = http.recv(65536)
                if not more:
                    break
                answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def metrics(self):
        status, text = self.get("/metrics")
        if status != 200:
            raise Failure(f"/metrics: status {status}", text)
        return Metrics(text)


class Metrics:
    """What a strict reader of Prometheus' text format makes of it."""

    def __init__(self, text):
        self.types = {}
        self.samples = {}
        helped = set()
        current = None
        if not text.endswith("\n"):
            raise Failure("metrics: the last line does not end")
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                current, _, explanation = line[7:].partition(" ")
                if current in helped or not explanation:
                    raise Failure(f"metrics: {line}: twice, or without a text")
                helped.add(current)
            elif line.startswith("# TYPE "):
                name, _, kind = line[7:].partition(" ")
                if name != current or name in self.types:
                    raise Failure(f"metrics: {line}: not behind its help")
                if kind not in ("counter", "gauge", "histogram"):
                    raise Failure(f"metrics: {line}: no such type")
                self.types[name] = kind
            else:
                self.add(line, current)
        self.check()

    def add(self, line, family):
        match = SAMPLE.match(line)
        if not match:
            raise Failure(f"metrics: {line}: no sample")
        name, labels, value = match.groups()
        kind = self.types.get(family)
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        if name not in [family + suffix for suffix in suffixes]:
            raise Failure(f"metrics: {line}: in the family {family}")
        if kind == "counter" and not name.endswith("_total"):
            raise Failure(f"metrics: {name}: a counter's name ends in _total")
        found = LABEL.findall(labels or "")
        if LABEL.sub("", labels or ""):
            raise Failure(f"metrics: {line}: labels")
        key = (name, tuple(sorted(found)))
        if key in self.samples:
            raise Failure(f"metrics: {line}: twice")
        self.samples[key] = float(value)

    def check(self):
        """Histograms: buckets grow, the last one is the count."""
        series = {}
        for (name, labels), value in self.samples.items():
            if name.endswith("_bucket"):
                rest = tuple(item for item in labels if item[0] != "le")
                series.setdefault((name[:-7], rest), []).append(
                    (float(dict(labels)["le"]), value))
        for (name, labels), buckets in series.items():
            buckets.sort()
            counts = [count for _, count in buckets]
            if counts != sorted(counts) or buckets[-1][0] != float("inf"):
                raise Failure(f"metrics: {name}{labels}: buckets {buckets}")
            if self.samples[(f"{name}_count", labels)] != counts[-1]:
                raise Failure(f"metrics: {name}{labels}: the count is not the last bucket")

    def sum(self, name, **labels):
        """Of all samples of that name with these labels."""
        wanted = set(labels.items())
        return sum(value for (found, have), value in self.samples.items()
                   if found == name and wanted <= set(have))
