# SPDX-License-Identifier: Apache-2.0
"""What the bucket holds, as an independent client sees it: boto3, from Debian's package.

It talks to the server itself, never through the fault proxy, so that its requests are
neither counted nor harmed.
"""

import hashlib
import re

import boto3
import botocore.client
import botocore.exceptions
import botocore.handlers

CONTROL = re.compile("[\\x00-\\x1f]")


class Bucket:
    """A bucket, or the part of it under `prefix`, to which all keys are relative."""

    def __init__(self, server, name, prefix=""):
        self.server = server
        self.name = name
        self.prefix = prefix
        self.client = boto3.client(
            "s3", endpoint_url=server.endpoint, region_name=server.region,
            aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
            config=botocore.client.Config(
                signature_version="s3v4", retries={"max_attempts": 5},
                s3={"addressing_style": "path"}))
        # MinIO answers a PUT of an empty object whose key ends in a slash without having
        # said "continue", and then lets the connection's next request wait for 30 seconds.
        self.client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)

    def make(self):
        self.client.create_bucket(Bucket=self.name)
        return self

    def put(self, key, data=b"", **more):
        """Returns the ETag, which MinIO does not give for keys that end in a slash."""
        return self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=data,
                                      **more).get("ETag")

    def get(self, key):
        return self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()

    def sum(self, key):
        """SHA-256 of an object, for those that are too large to compare."""
        digest = hashlib.sha256()
        body = self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"]
        for piece in body.iter_chunks(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    def head(self, key):
        """The answer of HEAD, None when there is no such object."""
        try:
            return self.client.head_object(Bucket=self.name, Key=self.prefix + key)
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise

    def exists(self, key):
        return self.head(key) is not None

    def size(self, key):
        return self.head(key)["ContentLength"]

    def etag(self, key):
        return self.head(key)["ETag"]

    def delete(self, *keys):
        # No XML document can name these.
        for key in filter(CONTROL.search, keys):
            self.client.delete_object(Bucket=self.name, Key=self.prefix + key)
        keys = [key for key in keys if not CONTROL.search(key)]
        for at in range(0, len(keys), 1000):
            self.client.delete_objects(Bucket=self.name, Delete={
                "Quiet": True,
                "Objects": [{"Key": self.prefix + key} for key in keys[at:at + 1000]]})

    def keys(self, prefix=""):
        """All keys, sorted as the service sorts them."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + prefix)
        return [row["Key"][len(self.prefix):] for page in pages for row in page.get("Contents", ())]

    def uploads(self):
        """Keys of multipart uploads that nobody has ended."""
        return [row["Key"][len(self.prefix):] for row in self.upload_rows()]

    def upload_rows(self):
        # No Prefix: MinIO takes it for a whole key.
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        return [row for page in pages for row in page.get("Uploads", ())
                if row["Key"].startswith(self.prefix)]

    def wipe(self):
        # More than once: MinIO does not list what is beside a file of the folder's name.
        while keys := self.keys():
            self.delete(*keys)
        for row in self.upload_rows():
            self.client.abort_multipart_upload(Bucket=self.name, Key=row["Key"],
                                               UploadId=row["UploadId"])

    def remove(self):
        self.wipe()
        if not self.prefix:
            self.client.delete_bucket(Bucket=self.name)
