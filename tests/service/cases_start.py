# SPDX-License-Identifier: Apache-2.0
"""A wrong configuration gives one message, at start, that says which it is; a service that is not
there gives another, and is waited for; and the keys
of the service's configuration do what they say."""

import os
import subprocess
import threading
import time

import boto3

from harness.report import Failure

from ground.servers import Proxy, make_certificate
from ground.stage import at_most, case, check, equal, eventually, fails
from ground.tools import pattern

MIB = 1 << 20


def refused(stage, *words, **keys):
    """A daemon with these keys must end at once, not with 0, saying one of the words."""
    start = time.monotonic()
    try:
        daemon = stage.daemon(**keys)
    except Failure as failure:
        if time.monotonic() - start > 30:
            raise Failure("took too long to say no", failure.details) from None
        text = failure.details.lower()
        check(any(word in text for word in words), f"none of {words} in: {failure.details}")
        check(stage.server.secret_key not in text, "the secret in the log")
        stage.daemons = [other for other in stage.daemons if other.alive()]
        return
    # It may listen before it has asked the service: then it has a moment to go.
    deadline = time.monotonic() + 20
    while daemon.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    text = daemon.log().lower()
    check(not daemon.alive(), f"a daemon that starts with {keys}: {text[-500:]}")
    stage.daemons.remove(daemon)
    check(any(word in text for word in words), f"none of {words} in: {text[-1000:]}")


def unreachable(stage, *words, **keys):
    """A daemon with these keys is up, and says why its guests get errors."""
    daemon = stage.daemon(**keys)
    eventually(lambda: " storage_does_not_answer " in daemon.log(), 60, "it says so")
    text = daemon.log().lower()
    check(any(word in text for word in words), f"none of {words} in: {text[-1000:]}")
    with fails("EIO"):
        stage.mount_of(daemon).list()


@case("a key id that does not exist")
def wrong_key_id(stage):
    refused(stage, "access_key_id", "access key", "key id", storage__access_key_id="AKIANOTHERE")


@case("a secret that is wrong")
def wrong_secret(stage):
    refused(stage, "secret", storage__secret_access_key="wrong-wrong-wrong-wrong")


@case("a bucket that does not exist")
def wrong_bucket(stage):
    refused(stage, "no such bucket", "bucket", storage__bucket="no-such-bucket-anywhere")


@case("a region that is not the service's", needs="minio")
def wrong_region(stage):
    # Either it says so, or it has learnt the right one from the answer.
    try:
        mount = stage.mount(storage__region="eu-north-7")
    except Failure as failure:
        check("region" in failure.details.lower(), f"not the region in: {failure.details}")
        stage.daemons.clear()
        return
    mount.write_file("a", b"x")
    equal(stage.bucket.get("a"), b"x")


@case("the region is found when it is not given")
def region_found(stage):
    mount = stage.mount(storage__region=None)
    mount.write_file("a", b"x")
    equal(stage.bucket.get("a"), b"x")


@case("a service that is busy, or drops the connection, at the moment of the start")
def passing_failure(stage):
    for harm in ({"status": 503, "code": "SlowDown"}, {"drop": "before"}):
        stage.proxy.rule(times=2, **harm)
        stage.mount().write_file("a", b"x")
        equal(stage.bucket.get("a"), b"x")
        stage.proxy.clear()


@case("an endpoint where nobody listens")
def wrong_endpoint(stage):
    stage.proxy.refuse()
    unreachable(stage, "does not accept connections")


@case("an endpoint that never answers")
def silent_endpoint(stage):
    stage.proxy.rule(hang=True)
    unreachable(stage, "no answer", retry__total="2s")


@case("a name that does not resolve")
def unknown_host(stage):
    unreachable(stage, "does not resolve", storage__endpoint="http://nowhere.invalid")


@case("a clock that is wrong")
def wrong_clock(stage):
    stage.proxy.rule(status=403, code="RequestTimeTooSkewed")
    refused(stage, "clock", "time")


@case("permission that is missing")
def no_permission(stage):
    stage.proxy.rule(status=403, code="AccessDenied")
    refused(stage, "permission", "denied", "not allowed", "may not")


@case("credentials from environment, from a profile file, and from the file of the secret")
def credentials_from_elsewhere(stage):
    folder = f"{stage.dir}/home"
    os.makedirs(f"{folder}/.aws")
    with open(f"{folder}/.aws/credentials", "w", encoding="utf-8") as file:
        file.write(f"[other]\naws_access_key_id = {stage.server.access_key}\n"
                   f"aws_secret_access_key = {stage.server.secret_key}\n")
    with open(f"{folder}/secret", "w", encoding="utf-8") as file:
        file.write(stage.server.secret_key + "\n")
    os.chmod(f"{folder}/secret", 0o600)
    none = {"access_key_id": None, "secret_access_key": None, "disable_config_load": None}
    variables = {"AWS_ACCESS_KEY_ID": stage.server.access_key,
                 "AWS_SECRET_ACCESS_KEY": stage.server.secret_key}
    for what, keys, environment in (
            ("environment", none, variables),
            ("profile", none | {"profile": "other"},
             {"AWS_SHARED_CREDENTIALS_FILE": f"{folder}/.aws/credentials"}),
            ("file", {"secret_access_key": None,
                      "secret_access_key_file": f"{folder}/secret"}, {})):
        kept = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            mount = stage.mount({"storage_settings": keys})
        except Failure as failure:
            raise Failure(f"{what}: {failure}", failure.details) from None
        finally:
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        mount.write_file(what, b"x")
        equal(stage.bucket.get(what), b"x")


@case("a profile file that is replaced under the daemon, old keys refused at once: no request fails",
      needs="minio", limit=120)
def rotated_file(stage):
    sts = boto3.client("sts", endpoint_url=stage.server.endpoint, region_name="us-east-1",
                       aws_access_key_id=stage.server.access_key,
                       aws_secret_access_key=stage.server.secret_key)
    path = f"{stage.dir}/home/.aws/credentials"
    os.makedirs(os.path.dirname(path))

    def replace_keys():
        fresh = sts.assume_role(RoleArn="arn:aws:iam::x:role/any", RoleSessionName="any",
                                DurationSeconds=3600)["Credentials"]
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(f"[other]\naws_access_key_id = {fresh['AccessKeyId']}\n"
                       f"aws_secret_access_key = {fresh['SecretAccessKey']}\n"
                       f"aws_session_token = {fresh['SessionToken']}\n")
        os.replace(f"{path}.new", path)
        return fresh["AccessKeyId"], fresh["SessionToken"]

    used = [replace_keys()]
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = path
    try:
        mount = stage.mount({"storage_settings": {"access_key_id": None, "secret_access_key": None,
                                                  "disable_config_load": None,
                                                  "profile": "other"}})
    finally:
        del os.environ["AWS_SHARED_CREDENTIALS_FILE"]

    def rotate():
        for _ in range(8):
            time.sleep(0.5)
            used.append(replace_keys())
            stage.proxy.rule(signer=used[-2][0], status=403, code="InvalidAccessKeyId")

    rotator = threading.Thread(target=rotate)
    rotator.start()
    rounds = 0
    while rotator.is_alive() or rounds < 20:
        data = pattern(rounds, 1000 + rounds % 3 * 9000000)
        mount.write_file(f"work{rounds % 5}", data)
        check(mount.read_file(f"work{rounds % 5}") == data, f"bytes of round {rounds}")
        mount.unlink(f"work{rounds % 5}")
        rounds += 1
    rotator.join()
    equal(len(used), 9)
    mount.write_file("last", b"x")
    equal(stage.bucket.get("last"), b"x")
    sent = {entry["headers"].get("x-amz-security-token") for entry in stage.proxy.log()}
    at_most(sum(token not in sent for _, token in used), 4, "keys that nothing was signed with")
    check(used[-1][1] in sent, "the newest keys are used")


@case("https, by a name that is looked up, with a CA bundle of its own", needs="minio")
def tls(stage):
    # All of it from within the sandbox: the resolver's files, the bundle, and the system calls.
    pem, crt = make_certificate(stage.dir)
    proxy = Proxy(stage.server.endpoint, stage.dir, cert=pem)
    stage.cleanups.append(proxy.end)
    endpoint = f"https://localhost:{proxy.port}"
    mount = stage.mount(storage__endpoint=endpoint, storage__ca_bundle=crt)
    data = pattern(4, 20 * MIB)
    mount.write_file("a", data)
    check(stage.bucket.get("a") == data, "the object's bytes")
    check(mount.read_file("a") == data, "read back")
    refused(stage, "certificate", storage__endpoint=endpoint)


@case("checksum_algorithm: each of them is sent, and accepted")
def checksums(stage):
    for algorithm in ("crc32c", "crc64nvme", "md5"):
        mount = stage.mount(storage__checksum_algorithm=algorithm)
        stage.proxy.reset()
        small, large = pattern(1, 1000), pattern(2, 24 * MIB)
        mount.write_file(f"{algorithm}-small", small)
        mount.write_file(f"{algorithm}-large", large)
        equal(stage.bucket.get(f"{algorithm}-small"), small)
        check(stage.bucket.get(f"{algorithm}-large") == large, "the large one")
        uploads = [entry for entry in stage.proxy.log()
                   if entry["op"] in ("PutObject", "UploadPart")]
        name = "content-md5" if algorithm == "md5" else f"x-amz-checksum-{algorithm}"
        check(all(name in entry["headers"] for entry in uploads), f"{name} in each upload")
        check(mount.read_file(f"{algorithm}-large") == large, "read back")
        stage.unmount(mount)


@case("the older listing: disable_list_objects_v2")
def old_listing(stage):
    for i in range(1200):
        stage.bucket.put(f"d/{i:04} +&%", b"")
    mount = stage.mount(storage__disable_list_objects_v2=True)
    stage.proxy.reset()
    equal(mount.list("d"), [f"{i:04} +&%" for i in range(1200)])
    requests = stage.proxy.requests()
    check(requests.get("ListObjectsV2", 0) == 0 and requests.get("ListObjects", 0) >= 2, requests)


@case("skip_signature: a public bucket without any credentials", needs="minio")
def unsigned(stage):
    stage.bucket.put("a", b"public")
    stage.bucket.client.put_bucket_policy(Bucket=stage.bucket.name, Policy=(
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},'
        '"Action":["s3:GetObject","s3:ListBucket","s3:GetBucketLocation"],"Resource":'
        f'["arn:aws:s3:::{stage.bucket.name}","arn:aws:s3:::{stage.bucket.name}/*"]}}]}}'))
    for key in ("skip_signature", "allow_anonymous"):
        mount = stage.mount({"storage_settings": {
            "access_key_id": None, "secret_access_key": None, key: True},
            # What is refused stays dirty, and is tried until then.
            "cache_settings": {"drain_timeout": "2s"}})
        equal(mount.list(), ["a"])
        equal(mount.read_file("a"), b"public")
        with fails("EACCES", "EPERM"):
            mount.write_file("b", b"x")
        stage.mounts.remove(mount)
        mount.close()
        stage.end_daemon(mount.daemon, wanted=None)


@case("default_storage_class and default_acl are sent with what is written")
def storage_class(stage):
    mount = stage.mount(storage__default_storage_class="REDUCED_REDUNDANCY",
                        storage__default_acl="private")
    mount.write_file("small", b"x")
    mount.write_file("large", pattern(3, 24 * MIB))
    for entry in stage.proxy.log():
        if entry["op"] in ("PutObject", "CreateMultipartUpload"):
            equal(entry["headers"].get("x-amz-storage-class"), "REDUCED_REDUNDANCY")
            equal(entry["headers"].get("x-amz-acl"), "private")


@case("--check-config prints the configuration without the secret")
def check_config(stage):
    daemon = stage.daemon()
    result = subprocess.run([*daemon.argv(), "--check-config"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    equal(result.returncode, 0, result.stdout)
    check(stage.server.secret_key not in result.stdout, "the secret was printed")
    check(stage.bucket.name in result.stdout, "the bucket was not")


@case("a key that nobody knows is refused by name")
def unknown_key(stage):
    refused(stage, "acces_key_id", storage__acces_key_id="x")


