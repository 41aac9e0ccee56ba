# SPDX-License-Identifier: Apache-2.0
"""Data for cases: the same for the same seed, and large objects made of it."""

import functools
import hashlib
import random

MIB = 1 << 20
PART = 32 * MIB


@functools.lru_cache(maxsize=8)
def pattern(seed, length):
    """`length` bytes that do not compress."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(min(PART, length - at)) for at in range(0, length, PART))


def pieces(seed, length):
    """The same, a part at a time."""
    chance = random.Random(seed)
    for at in range(0, length, PART):
        yield chance.randbytes(min(PART, length - at))


def put_large(bucket, key, length, seed):
    """A multipart upload by the second client. Returns the ETag."""
    names = {"Bucket": bucket.name, "Key": bucket.prefix + key}
    names["UploadId"] = bucket.client.create_multipart_upload(**names)["UploadId"]
    parts = [{"PartNumber": number, "ETag": bucket.client.upload_part(
        PartNumber=number, Body=data, **names)["ETag"]}
             for number, data in enumerate(pieces(seed, length), 1)]
    names["MultipartUpload"] = {"Parts": parts}
    return bucket.client.complete_multipart_upload(**names)["ETag"]


def digest_of(length, seed, change=None):
    """SHA-256 of pattern(seed, length) with (offset, bytes) written over it."""
    digest = hashlib.sha256()
    at = 0
    for data in pieces(seed, length):
        if change:
            start, new = change
            first, last = max(start, at), min(start + len(new), at + len(data))
            if first < last:
                data = (data[:first - at] + new[first - start:last - start] +
                        data[last - at:])
        digest.update(data)
        at += len(data)
    return digest.hexdigest()
