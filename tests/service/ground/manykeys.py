# SPDX-License-Identifier: Apache-2.0
"""A bucket of a million objects that nobody had to write.

It answers listings, of both versions, with keys made up on the way, and nothing else: the one
thing that a real server is too slow to be filled with for a test.
"""

import http.server
import threading
import urllib.parse

PAGE = 1000


class ManyKeys:
    """Keys `d/key-0000000` ... in a bucket of any name; size of each is its number."""

    def __init__(self, count):
        self.count = count
        self.listings = 0
        keys = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
                bucket, _, key = url.path[1:].partition("/")
                if not bucket or key:
                    self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                else:
                    self.answer(200, keys.listing(query))

            def do_HEAD(self):
                self.answer(404, b"")

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def key(number):
        return f"d/key-{number:07}"

    def first_after(self, key):
        """The number of the first key behind `key`."""
        if key < self.key(0):
            return 0
        if not key.startswith("d/key-"):
            return self.count if key > "d/" else 0
        digits = key[len("d/key-"):]
        return min(self.count, int(digits[:7].ljust(7, "0")) + (1 if len(digits) >= 7 else 0))

    def listing(self, query):
        self.listings += 1
        prefix = query.get("prefix", "")
        limit = min(PAGE, int(query.get("max-keys", PAGE)))
        after = max(query.get("continuation-token", ""), query.get("start-after", ""),
                    query.get("marker", ""))
        rows, more, last = [], False, ""
        if query.get("delimiter") == "/" and "d/".startswith(prefix) and prefix != "d/":
            if after < "d/":
                rows.append("<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>")
        elif self.key(0).startswith(prefix) or prefix.startswith("d/"):
            number = self.first_after(after)
            while number < self.count and len(rows) < limit:
                last = self.key(number)
                if not last.startswith(prefix):
                    if last > prefix:
                        break
                    number = self.first_after(prefix) if prefix > last else number + 1
                    if self.key(number - 1).startswith(prefix) and number:
                        number -= 1
                    continue
                rows.append(f"<Contents><Key>{last}</Key><LastModified>2026-01-02T03:04:05.000Z"
                            f'</LastModified><ETag>"{number:032x}"</ETag><Size>{number}</Size>'
                            "<StorageClass>STANDARD</StorageClass></Contents>")
                number += 1
            more = number < self.count and self.key(number).startswith(prefix)
        token = (f"<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{last}"
                 "</NextMarker>") if more else ""
        return ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns='
                f'"http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>{prefix}</Prefix>'
                f"<MaxKeys>{limit}</MaxKeys><KeyCount>{len(rows)}</KeyCount>"
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}"
                "</ListBucketResult>").encode()
