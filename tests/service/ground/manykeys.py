# SPDX-License-Identifier: Apache-2.0
"""Buckets that nobody had to write: what a real server is too slow to be filled with for a
test, and keys that MinIO does not store although S3 does.

They answer listings, of both versions, and GET and HEAD of objects; nothing is checked, least
of all signatures.
"""

import bisect
import http.server
import threading
import urllib.parse
import xml.sax.saxutils

PAGE = 1000
ROW = ("<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
       '<ETag>"{:032x}"</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>')


class FakeBucket:
    """The HTTP side. A subclass has rows(query) and get(key)."""

    def __init__(self):
        self.listings = 0
        bucket = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
                _, _, key = urllib.parse.unquote(url.path[1:]).partition("/")
                if key:
                    data = bucket.get(key)
                    self.answer(404 if data is None else 200, data or b"")
                else:
                    bucket.listings += 1
                    self.answer(200, page(query, *bucket.rows(query)), "application/xml")

            do_HEAD = do_GET

            def answer(self, status, body, kind="application/octet-stream"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hash(body) & 0xffffffffffff:032x}"')
                self.send_header("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
                self.end_headers()
                if self.command != "HEAD":
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


def page(query, rows, last):
    """The document of a page; `last` is what the next one comes after, or "" at the end."""
    last = xml.sax.saxutils.escape(last)
    token = (f"<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{last}"
             "</NextMarker>") if last else ""
    return ('<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns='
            f'"http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
            f"<Prefix>{xml.sax.saxutils.escape(query.get('prefix', ''))}</Prefix>"
            f"<KeyCount>{len(rows)}</KeyCount><IsTruncated>{'true' if last else 'false'}"
            f"</IsTruncated>{token}{''.join(rows)}</ListBucketResult>").encode()


def bounds(query):
    """(prefix, the key that the page comes after, rows at most)."""
    return (query.get("prefix", ""),
            max(query.get(name, "") for name in ("continuation-token", "start-after", "marker")),
            min(PAGE, int(query.get("max-keys", PAGE))))


class GivenKeys(FakeBucket):
    """{key: content}, all of which fit into a page."""

    def __init__(self, objects):
        self.objects = objects
        self.sorted = sorted(objects, key=str.encode)
        super().__init__()

    def get(self, key):
        return self.objects.get(key)

    def rows(self, query):
        prefix, after, limit = bounds(query)
        rows, seen = [], set()
        for key in self.sorted[bisect.bisect_right(self.sorted, after):]:
            if not key.startswith(prefix):
                continue
            name, slash, _ = key[len(prefix):].partition("/")
            if query.get("delimiter") == "/" and slash:
                if name not in seen:
                    rows.append("<CommonPrefixes><Prefix>"
                                f"{xml.sax.saxutils.escape(prefix + name)}/</Prefix>"
                                "</CommonPrefixes>")
                seen.add(name)
            else:
                rows.append(ROW.format(xml.sax.saxutils.escape(key),
                                       hash(self.objects[key]) & 0xffffffffffff,
                                       len(self.objects[key])))
        return rows[:limit], ""


class ManyKeys(FakeBucket):
    """Keys `d/key-0000000` ... in a bucket of any name; size of each is its number."""

    def __init__(self, count):
        self.count = count
        super().__init__()

    def get(self, key):
        number = key[len("d/key-"):]
        if key == self.key(int(number) if number.isdigit() else 0):
            return bytes(int(number))
        return None

    @staticmethod
    def key(number):
        return f"d/key-{number:07}"

    def first_after(self, key):
        """The number of the first key behind `key`."""
        return bisect.bisect_right(range(self.count), key, key=self.key)

    def rows(self, query):
        prefix, after, limit = bounds(query)
        if query.get("delimiter") == "/" and "d/".startswith(prefix) and prefix != "d/":
            return (["<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"]
                    if after < "d/" else [], "")
        # From where both conditions begin to hold, as long as the prefix does.
        number = max(self.first_after(after),
                     bisect.bisect_left(range(self.count), prefix, key=self.key))
        rows, last = [], ""
        while number < self.count and len(rows) < limit:
            last = self.key(number)
            if last.startswith(prefix):
                rows.append(ROW.format(last, number, number))
            elif last > prefix:
                return rows, ""
            number += 1
        more = number < self.count and self.key(number).startswith(prefix)
        return rows, last if more else ""
