# SPDX-License-Identifier: Apache-2.0
"""Which operation of S3 an HTTP request is.

The names are those of the S3 API reference. The order of the tests follows what tells
operations apart there: method, then sub-resource in the query, then headers.
"""

import ipaddress
import urllib.parse

LISTS = ("ListObjectsV2", "ListObjects")
UPLOADS = ("PutObject", "UploadPart")


class Request:
    """A request line and headers, told apart."""

    def __init__(self, method, target, headers):
        """`headers`: a dict with lower-case names."""
        self.method = method
        self.headers = headers
        url = urllib.parse.urlsplit(target)
        # Keys are bytes: as in file names, what is no UTF-8 is escaped.
        path = urllib.parse.unquote(url.path, errors="surrogateescape")
        self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True,
                                                 errors="surrogateescape"))
        self.bucket, self.key = self.split(path)
        self.op = self.classify()

    def split(self, path):
        """(bucket, key), for both styles of addressing."""
        host = self.headers.get("host", "").rsplit(":", 1)[0]
        first, _, rest = host.partition(".")
        if rest and not is_address(host):
            return first, path[1:]
        bucket, _, key = path[1:].partition("/")
        return bucket, key

    def classify(self):
        if self.key:
            return self.of_object()
        return self.of_bucket() if self.bucket else "ListBuckets"

    def of_object(self):
        query, copies = self.query, "x-amz-copy-source" in self.headers
        if self.method == "GET":
            return "ListParts" if "uploadId" in query else "GetObject"
        if self.method == "HEAD":
            return "HeadObject"
        if self.method == "PUT":
            if "uploadId" in query:
                return "UploadPartCopy" if copies else "UploadPart"
            return "CopyObject" if copies else "PutObject"
        if self.method == "POST":
            if "uploads" in query:
                return "CreateMultipartUpload"
            return "CompleteMultipartUpload" if "uploadId" in query else "Other"
        if self.method == "DELETE":
            return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        return "Other"

    def of_bucket(self):
        query = self.query
        if self.method == "GET":
            if "uploads" in query:
                return "ListMultipartUploads"
            if "location" in query:
                return "GetBucketLocation"
            return "ListObjectsV2" if query.get("list-type") == "2" else "ListObjects"
        if self.method == "HEAD":
            return "HeadBucket"
        if self.method == "POST" and "delete" in query:
            return "DeleteObjects"
        return {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}.get(self.method, "Other")

    def prefix(self):
        """What a listing asks for, or the key."""
        return self.query.get("prefix", "") if self.op in LISTS else self.key


def is_address(host):
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        return False
