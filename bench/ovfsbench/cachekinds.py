# SPDX-License-Identifier: Apache-2.0
"""ovfs with its cache in the way, as daemons to compare (see daemon.py)."""

import os

from .daemon import Ovfs, descendants

POOL_MIB = 512


def toml(tables):
    def value(v):
        return str(v).lower() if isinstance(v, (bool, int)) else f'"{v}"'

    return "".join(f"[{name}]\n" + "".join(f"{key} = {value(v)}\n" for key, v in keys.items())
                   for name, keys in tables.items())


class Cached(Ovfs):
    """`storage`: of [storage_settings]. `cache`: of [cache_settings], beyond the size."""

    def __init__(self, name, label, binary, storage, cache, pool_mib=POOL_MIB):
        super().__init__(name, binary)
        self.label = label
        self.storage = storage
        self.cache = dict(cache, size=f"{pool_mib}MiB")

    def argv(self, socket, root, tag, queues):
        storage = dict(self.storage)
        if storage["type"] == "fs":
            storage["root"] = root
        conf = socket + ".toml"
        with open(conf, "w", encoding="utf-8") as out:
            out.write(toml({
                "socket_settings": {"socket_path": socket, "tag": tag,
                                    "num_request_queues": queues},
                "storage_settings": storage, "cache_settings": self.cache}))
        os.chmod(conf, 0o600)
        return [self.binary, f"--config-file={conf}"]


def bucket(binary, write_back=False, **cache):
    """A bucket in the daemon's own memory: the same driver and cache, and no server."""
    return Cached("bucket", "ovfs, a bucket", binary, {"type": "memory"},
                  dict(cache, enabled_cache_write_back=write_back))


def directory(binary, write_back=False, **cache):
    return Cached("cached", "ovfs, a directory through the cache", binary, {"type": "fs"},
                  dict(cache, enabled_cache=True, enabled_cache_write_back=write_back))


def memory_mib(pid):
    """(own, pool): what is resident of the daemon and its children, without the guest's memory,
    and of its pool."""
    own = pool = 0
    for process in descendants(pid):
        where = ""
        try:
            with open(f"/proc/{process}/smaps", encoding="utf-8") as maps:
                for line in maps:
                    fields = line.split()
                    if not fields[0].endswith(":"):
                        where = line
                    elif fields[0] == "Rss:":
                        if "ovfs-cache" in where:
                            pool += int(fields[1])
                        elif "memfd:guest" not in where:
                            own += int(fields[1])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return own / 1024, pool / 1024
