# SPDX-License-Identifier: Apache-2.0
"""A level on object storage: an S3 server, and a bucket of it for each site.

The server and its independent clients are the service level's (tests/service). Cases ask the
bucket on the host by rclone: `host 'rclone cat $S3/file'`, where $S3 is the case's folder.
"""

import os
import shutil
import sys

from .daemon import OvfsOnBucket
from .report import Failure


class Server:
    """Started once for a level; may be killed and started by scenarios."""

    def __init__(self, repository, work_dir):
        self.repository = repository
        self.work_dir = work_dir
        self.minio = None
        self.made = 0

    def start(self):
        if not shutil.which("rclone"):
            raise Failure("rclone is not installed: scripts/install-deps.sh service")
        sys.path.insert(0, f"{self.repository}/tests/service")
        # pylint: disable=import-outside-toplevel
        from ground.servers import MinIO
        self.minio = MinIO(self.work_dir).start()

    def end(self):
        if self.minio:
            self.minio.end()

    def give_bucket(self, site):
        """A fresh bucket for the site, and its daemons on it."""
        self.made += 1
        site.bucket = Bucket(self.minio, f"guest-{self.made}")
        site.daemon_class = type("OvfsOnThisBucket", (OvfsOnBucket,), {
            "tables": site.bucket.tables()})


class Bucket:
    def __init__(self, minio, name):
        self.minio = minio
        self.name = name
        # In MinIO a folder is a bucket as soon as it is there.
        os.mkdir(f"{minio.dir}/{name}")
        self.remote = f":s3:{name}"
        self.environment = {
            "RCLONE_CONFIG": "/dev/null", "RCLONE_S3_PROVIDER": "Minio",
            "RCLONE_S3_ENDPOINT": minio.endpoint, "RCLONE_S3_REGION": minio.region,
            "RCLONE_S3_ACCESS_KEY_ID": minio.access_key,
            "RCLONE_S3_SECRET_ACCESS_KEY": minio.secret_key,
            # Somebody's setting for Amazon's tools; rclone refuses to start with it.
            "AWS_CA_BUNDLE": ""}

    def tables(self):
        return {
            "storage_settings": {
                "type": "s3", "bucket": self.name, "endpoint": self.minio.endpoint,
                "region": self.minio.region, "access_key_id": self.minio.access_key,
                "secret_access_key": self.minio.secret_key, "disable_config_load": True,
                "disable_ec2_metadata": True},
            "cache_settings": {"enabled_cache_write_back": True, "size": "256MiB"},
            # Programs are run from there.
            "object_settings": {"on_unsupported": "ignore", "file_mode": "0755"}}
