# SPDX-License-Identifier: Apache-2.0
"""The S3 server and the fault proxy in front of it, as processes of ours."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from harness.report import Failure

SERVICE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPOSITORY = os.path.dirname(os.path.dirname(SERVICE_DIR))
START_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class MinIO:
    """A MinIO on loopback with a folder of its own. start(), kill(), start() keep the data."""

    access_key = "ovfs-test-key"
    secret_key = "ovfs-test-secret-not-secret"
    region = "us-east-1"

    def __init__(self, work_dir):
        self.dir = tempfile.mkdtemp(prefix="minio.", dir=work_dir)
        self.log_path = self.dir + ".log"
        self.port = free_port()
        self.process = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = subprocess.run([f"{REPOSITORY}/scripts/s3-server.sh", "path"],
                                 stdout=subprocess.PIPE, text=True, check=False)
        if command.returncode != 0:
            raise Failure("there is no S3 server: scripts/s3-server.sh failed")
        environment = {
            "PATH": os.environ["PATH"], "HOME": self.dir,
            "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_REGION": self.region,
            # Other programs of this machine have a right to the processors.
            "GOMAXPROCS": str(os.cpu_count() or 1),
        }
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [command.stdout.strip(), "server", "--address", f"127.0.0.1:{self.port}",
                 "--quiet", self.dir], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        self.wait_ready()
        return self

    def wait_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Failure("MinIO ended at once", self.log_tail())
            try:
                link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                link.request("GET", "/minio/health/ready")
                if link.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                link.close()
            if time.monotonic() > deadline:
                raise Failure(f"MinIO is not ready after {START_SECONDS} s", self.log_tail())
            time.sleep(0.05)

    def kill(self):
        """As by a power failure of the server's machine."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        self.kill()
        self.start()

    def end(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return "".join(f"minio: {line}" for line in log.readlines()[-20:])


class External:
    """Somebody's server, from the environment. It can be neither killed nor restarted."""

    def __init__(self):
        self.endpoint = os.environ["OVFS_TEST_S3_ENDPOINT"].rstrip("/")
        self.region = os.environ.get("OVFS_TEST_S3_REGION", "us-east-1")
        self.access_key = os.environ["AWS_ACCESS_KEY_ID"]
        self.secret_key = os.environ["AWS_SECRET_ACCESS_KEY"]

    def start(self):
        return self

    def end(self):
        pass

    @staticmethod
    def log_tail():
        return ""


class Proxy:
    """Our end of the fault proxy's control socket; see tests/service/faultproxy."""

    def __init__(self, upstream, work_dir, cert=None, resign=False):
        """`cert`: a file with certificate and key; clients then speak TLS to the proxy.
        `resign`: the server has a name of its own, that signatures must be for."""
        self.scheme = "https" if cert else "http"
        self.control_path = tempfile.mktemp(prefix="proxy.", suffix=".sock", dir=work_dir)
        self.process = subprocess.Popen(
            [f"{SERVICE_DIR}/faultproxy", "--upstream", upstream, "--control", self.control_path,
             *(["--cert", cert] if cert else []), *(["--resign"] if resign else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise Failure("the fault proxy did not start")
        self.port = int(line)
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(self.control_path)
        self.answers = self.link.makefile("r", encoding="utf-8")

    @property
    def endpoint(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def order(self, do, **fields):
        self.link.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")
        answer = json.loads(self.answers.readline())
        if "error" in answer:
            raise Failure(f"fault proxy: {do}: {answer['error']}")
        return answer

    def rule(self, **fields):
        """Add a rule; returns its number."""
        return self.order("rule", **fields)["id"]

    def hits(self, number):
        return self.order("hits", id=number)["hits"]

    def clear(self):
        self.order("clear")

    def refuse(self):
        self.order("refuse")

    def accept(self):
        self.order("accept")

    def cut(self):
        self.order("cut")

    def reset(self):
        self.order("reset")

    def counts(self):
        """{operation: {requests, up, down, failed}} since the reset."""
        return self.order("counts")["counts"]

    def requests(self):
        """{operation: number of requests} since the reset."""
        return {name: count["requests"] for name, count in self.counts().items()}

    def log(self):
        return self.order("log")["log"]

    def end(self):
        self.link.close()
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def make_certificate(folder):
    """For this machine, signed by itself: (file with certificate and key, certificate alone)."""
    pem, crt = f"{folder}/server.pem", f"{folder}/server.crt"
    result = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=ovfs test", "-addext",
         "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", pem, "-out", crt],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        raise Failure("openssl can make no certificate", result.stdout)
    with open(pem, "a", encoding="ascii") as both, open(crt, encoding="ascii") as one:
        both.write(one.read())
    return pem, crt
