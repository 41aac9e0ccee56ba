# SPDX-License-Identifier: Apache-2.0
"""A vhost-user relay that adds the device's configuration space to a daemon.

User-mode Linux asks the daemon for the virtio-fs configuration (tag, number of
queues); QEMU's C virtiofsd does not have it, since QEMU keeps the tag itself.
The relay stands between the two on the control socket, offers
VHOST_USER_PROTOCOL_F_CONFIG and answers GET_CONFIG; every other message passes
unchanged, with its file descriptors. Requests and their notifications go
through shared memory and eventfds, past the relay: it costs them nothing.
"""

import os
import socket
import struct
import threading

HEADER = struct.Struct("<III")  # request, flags, size of the body
VERSION = 1
FLAG_REPLY = 1 << 2
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
GET_CONFIG = 24
F_CONFIG = 1 << 9


class ConfigProxy:
    """Listens on `path` for one front end and connects it to `backend`."""

    def __init__(self, path, backend, tag, queues=1):
        self.config = struct.pack("<36sI", tag.encode(), queues)
        self.backend_path = backend
        self.socket = path
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.ends = []
        self.backend_has_config = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        try:
            front, _ = self.listener.accept()
        except OSError:
            return
        back = socket.socket(socket.AF_UNIX)
        back.connect(self.backend_path)
        self.ends = [front, back]
        threading.Thread(target=self._pump, args=(back, front, self._from_back),
                         daemon=True).start()
        self._pump(front, back, self._from_front)

    def _pump(self, source, target, rewrite):
        try:
            while True:
                header, fds, _, _ = socket.recv_fds(source, HEADER.size, 16)
                if not header:
                    break
                header += read_exactly(source, HEADER.size - len(header))
                request, flags, size = HEADER.unpack(header)
                body = rewrite(request, flags, read_exactly(source, size))
                if body is not None:
                    message = HEADER.pack(request, flags, len(body)) + body
                    socket.send_fds(target, [message], fds)
                for fd in fds:
                    os.close(fd)
        except OSError:
            pass
        self.close()

    def _from_front(self, request, _flags, body):
        if request == GET_CONFIG:
            offset, size, _ = struct.unpack_from("<III", body)
            data = self.config[offset : offset + size].ljust(size, b"\0")
            reply = body[:12] + data
            self.ends[0].sendall(HEADER.pack(request, VERSION | FLAG_REPLY, len(reply)) + reply)
            return None
        if request == SET_PROTOCOL_FEATURES and not self.backend_has_config:
            return struct.pack("<Q", struct.unpack("<Q", body)[0] & ~F_CONFIG)
        return body

    def _from_back(self, request, _flags, body):
        if request == GET_PROTOCOL_FEATURES:
            features = struct.unpack("<Q", body)[0]
            self.backend_has_config = bool(features & F_CONFIG)
            return struct.pack("<Q", features | F_CONFIG)
        return body

    def close(self):
        for end in self.ends + [self.listener]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
