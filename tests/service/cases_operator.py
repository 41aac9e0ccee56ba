# SPDX-License-Identifier: Apache-2.0
"""The S3 service alone, without a file system: the operator's contract on the real server."""

import os
import re
import subprocess

from harness.report import Failure

from ground.servers import Proxy, make_certificate
from ground.stage import case, check, equal


def contract(stage, test="", endpoint=None, ca_bundle=""):
    """Run store-contract on an empty bucket."""
    environment = os.environ | {
        "OVFS_TEST_S3_ENDPOINT": endpoint or stage.server.endpoint,
        "OVFS_TEST_S3_BUCKET": stage.bucket.name, "OVFS_TEST_S3_ROOT": stage.bucket.prefix,
        "OVFS_TEST_S3_REGION": stage.server.region,
        "AWS_ACCESS_KEY_ID": stage.server.access_key,
        "AWS_SECRET_ACCESS_KEY": stage.server.secret_key, "OVFS_TEST_S3_CA": ca_bundle}
    program = os.path.join(os.path.dirname(stage.ground.fuse_pipe), "store-contract")
    result = subprocess.run([program, *([test] if test else [])], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                            errors="replace", timeout=200)
    passed = len(re.findall(r"^ok \d+", result.stdout, re.MULTILINE))
    if result.returncode != 0 or passed == 0:
        raise Failure(f"store-contract: exit code {result.returncode}, {passed} passed",
                      result.stdout[-4000:])
    return passed


@case("the contract of the operator holds on the server")
def operator_contract(stage):
    check(contract(stage) >= 15, "all tests ran")
    equal(stage.bucket.keys(), [])


@case("and with a root in front of every key")
def operator_with_root(stage):
    prefix = stage.bucket.prefix
    stage.bucket.put("outside", b"kept")
    stage.bucket.prefix = prefix + "some/root/"
    try:
        contract(stage)
        equal(stage.bucket.keys(), [])
    finally:
        stage.bucket.prefix = prefix
    equal(stage.bucket.keys(), ["outside"])


@case("each operation is one request, under the name that it should have")
def operator_requests(stage):
    contract(stage, "commits_are_conditional", stage.proxy.endpoint)
    equal(stage.proxy.requests(), {
        "PutObject": 2, "CreateMultipartUpload": 1, "UploadPart": 1, "UploadPartCopy": 1,
        "CompleteMultipartUpload": 3, "HeadObject": 2, "ListObjectsV2": 1, "DeleteObject": 2})
    for entry in stage.proxy.log():
        if entry["op"] == "PutObject" and entry["status"] == 200:
            # Over plain HTTP the payload is signed.
            sha = entry["headers"].get("x-amz-content-sha256", "")
            check(re.fullmatch("[0-9a-f]{64}", sha), f"the payload's hash: {sha}")


@case("over TLS: certificates are verified, payloads are not hashed")
def operator_tls(stage):
    pem, crt = make_certificate(stage.dir)
    proxy = Proxy(stage.server.endpoint, stage.ground.work_dir, pem, stage.ground.external)
    stage.cleanups.append(proxy.end)
    contract(stage, "", proxy.endpoint, crt)
    hashes = {entry["headers"].get("x-amz-content-sha256") for entry in proxy.log()
              if entry["op"] in ("PutObject", "UploadPart") and entry["up"]}
    equal(hashes, {"UNSIGNED-PAYLOAD"})
    proxy.reset()
    try:
        contract(stage, "it_answers_the_check", proxy.endpoint)
    except Failure as failure:
        check("ertificate" in failure.details, f"the certificate is named: {failure.details}")
    else:
        raise Failure("a certificate that nobody vouches for was accepted")
    equal(proxy.requests(), {}, "requests over a connection that is not trusted")
