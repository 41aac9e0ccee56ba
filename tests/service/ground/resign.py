# SPDX-License-Identifier: Apache-2.0
"""Signatures of requests that pass through the fault proxy to somebody else's server.

A signature covers the Host header. The own server takes what the client sent, 127.0.0.1; a
server elsewhere has a name of its own. So the proxy checks the client's signature, as the
server would have, and signs anew for the server's name. (Signature Version 4, as the
documentation of Amazon S3 has it.)
"""

import hashlib
import hmac
import re


class Refused(Exception):
    """The client's signature is wrong; the argument is S3's error code."""


class Signer:
    def __init__(self, access_key, secret_key):
        self.access_key, self.secret_key = access_key, secret_key

    def resign(self, words, lines, host):
        """A request's head: first line's words, header lines; returned as bytes, for `host`."""
        headers = [tuple(line.split(":", 1)) for line in lines]
        values = {name.lower(): " ".join(value.split()) for name, value in headers}
        given = values.get("authorization")
        if given is not None:
            match = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+?), *SignedHeaders=(\S+?), *"
                             r"Signature=(\w+)$", given)
            if match is None:
                raise Refused("AuthorizationHeaderMalformed")
            key, scope, names, signature = match.groups()
            if key != self.access_key:
                raise Refused("InvalidAccessKeyId")
            if self.signature(words, values, scope, names) != signature:
                raise Refused("SignatureDoesNotMatch")
            values["host"] = host
            values["authorization"] = re.sub(
                r"\w+$", self.signature(words, values, scope, names), given)
        changed = {"host": host, "authorization": values.get("authorization")}
        text = " ".join(words) + "\r\n" + "".join(
            f"{name}: {changed.get(name.lower(), value.strip())}\r\n" for name, value in headers)
        return (text + "\r\n").encode("latin-1")

    def signature(self, words, values, scope, names):
        method, target, _ = words
        path, _, query = target.partition("?")
        parameters = sorted(tuple((part + "=").split("=")[:2]) for part in query.split("&") if part)
        request = "\n".join([
            method, path, "&".join(f"{name}={value}" for name, value in parameters),
            *(f"{name}:{values.get(name, '')}" for name in names.split(";")), "", names,
            values.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")])
        text = "\n".join(["AWS4-HMAC-SHA256", values.get("x-amz-date", ""), scope,
                          hashlib.sha256(request.encode("latin-1")).hexdigest()])
        key = b"AWS4" + self.secret_key.encode()
        for word in scope.split("/"):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
