# SPDX-License-Identifier: Apache-2.0
"""The configuration changes each second under a guest that writes and reads: new keys for the bucket
each time, and what else can change. The guest notices nothing.

OVFS_TEST_RELOAD_SECONDS: for how long; 8 when it is not set."""

import os
import time

from harness.report import Failure

GUESTS = ("uml-s3",)

CHANGES = ({"cache_settings": {"size": "64MiB", "enabled_cache_write_back": True}},
           {"cache_settings": {"enabled_cache_write_back": False}},
           {"cache_settings": {"size": "512MiB", "part_size": "5MiB", "parts_in_flight": 2}},
           {"limit_settings": {"data_requests": 3}, "retry_settings": {"attempts": 5}},
           {"log": {"level": "debug"}})

WORK = ("cd $MNT && i=0 && while ! test -e stop; do i=$((i + 1)); n=$((i % 7)); "
        "seq $((i % 5 * 40000 + i)) >w$n || exit 1; "
        "[ $(tail -n 1 w$n) = $((i % 5 * 40000 + i)) ] || exit 2; "
        "[ $((i % 4)) != 0 ] || sync w$n || exit 3; "
        "mv w$n r$n && seq $((i % 5 * 40000 + i)) | cmp - r$n || exit 4; "
        "done; echo $i rounds")


def client(minio, service):
    # pylint: disable=import-outside-toplevel
    import boto3
    return boto3.client(service, endpoint_url=minio.endpoint, region_name=minio.region,
                        aws_access_key_id=minio.access_key,
                        aws_secret_access_key=minio.secret_key)


def fresh_keys(sts):
    keys = sts.assume_role(RoleArn="arn:aws:iam::x:role/any", RoleSessionName="any",
                           DurationSeconds=3600)["Credentials"]
    return {"access_key_id": keys["AccessKeyId"], "secret_access_key": keys["SecretAccessKey"],
            "session_token": keys["SessionToken"]}


def said(daemon, word):
    with open(daemon.log_path, encoding="utf-8", errors="replace") as log:
        return log.read().count(word)


def reload(daemon, base, change):
    """By rename, as editors do; waits until it is in effect."""
    before = said(daemon, " reloaded ")
    daemon.tables = {name: {**base.get(name, {}), **change.get(name, {})}
                     for name in {**base, **change}}
    path = daemon.socket + ".toml"
    daemon.write(path + ".new")
    os.rename(path + ".new", path)
    deadline = time.monotonic() + 60
    while said(daemon, " reloaded ") == before:
        if time.monotonic() > deadline:
            raise Failure(f"not reloaded within 60 s: {change}", daemon.log_tail())
        time.sleep(0.05)


def play(site, kind):
    seconds = float(os.environ.get("OVFS_TEST_RELOAD_SECONDS", "8"))
    daemon = site.daemon()
    guest = site.guest("uml", daemon).boot()
    guest.mount()
    base = dict(daemon.tables)
    sts = client(site.bucket.minio, "sts")
    job = guest.start(WORK, int(seconds) + 180)
    end = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < end:
        start = time.monotonic()
        change = {name: dict(keys) for name, keys in CHANGES[turns % len(CHANGES)].items()}
        change["storage_settings"] = fresh_keys(sts)
        reload(daemon, base, change)
        turns += 1
        time.sleep(max(0, start + 1 - time.monotonic()))
    # Not by the guest, which does one thing at a time.
    client(site.bucket.minio, "s3").put_object(Bucket=site.bucket.name, Key="stop", Body=b"")
    rc, output = guest.wait(job)
    assert rc == 0, f"exit status {rc}: {output}"
    assert turns >= 2, f"{turns} reloads"
    guest.must("sync", 60)
    guest.poweroff()
    site.stop_well(daemon)
