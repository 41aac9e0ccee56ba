#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test-conf-schema.py OVFS FILE...: the JSON schema that OVFS prints takes what the
daemon takes (each FILE, and what --check-config prints), and refuses what it refuses."""

import json
import re
import subprocess
import sys
import tomllib

ovfs, files = sys.argv[1], sys.argv[2:]
schema = json.loads(subprocess.check_output([ovfs, "--print-config-schema"]))
reference = subprocess.check_output([ovfs, "--print-config-reference"], text=True)

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
KNOWN = {"$schema", "title", "description", "type", "additionalProperties", "properties", "items",
         "anyOf", "enum", "pattern", "minLength", "maxLength", "minItems", "minimum", "maximum"}


def problems(value, s, path="$"):
    """What is wrong with @value by the schema @s: the words of draft-07 that we write."""
    assert set(s) <= KNOWN, set(s) - KNOWN
    if "type" in s:
        t = TYPES[s["type"]]
        if not isinstance(value, t) or (t is int and isinstance(value, bool)):
            return [f"{path}: no {s['type']}"]
    found = []
    if "anyOf" in s and all(problems(value, a, path) for a in s["anyOf"]):
        found.append(f"{path}: fits none of anyOf")
    if "enum" in s and value not in s["enum"]:
        found.append(f"{path}: not in enum")
    if "pattern" in s and not re.search(s["pattern"], value):
        found.append(f"{path}: pattern")
    if isinstance(value, str):
        size = len(value.encode())
        if size < s.get("minLength", 0) or size > s.get("maxLength", size):
            found.append(f"{path}: length")
    if isinstance(value, int) and not s.get("minimum", value) <= value <= s.get("maximum", value):
        found.append(f"{path}: range")
    if isinstance(value, list) and "items" in s:
        if len(value) < s.get("minItems", 0):
            found.append(f"{path}: too few")
        for i, item in enumerate(value):
            found += problems(item, s["items"], f"{path}[{i}]")
    if isinstance(value, dict) and "properties" in s:
        for key, item in value.items():
            if key in s["properties"]:
                found += problems(item, s["properties"][key], f"{path}.{key}")
            else:
                assert s["additionalProperties"] is False
                found.append(f"{path}.{key}: unknown")
    return found


def good(text, name):
    found = problems(tomllib.loads(text), schema)
    assert not found, (name, found)


def bad(text):
    assert problems(tomllib.loads(text), schema), text


# Every key of the reference is in the schema.
table = None
count = 0
for line in reference.splitlines():
    if m := re.match(r"## \[(\w+)\]$", line):
        table = schema["properties"][m[1]]["properties"]
    elif line == "## [[mount]]":
        table = schema["properties"]["mount"]["items"]["properties"]
    elif line == "## [[mount.directory]]":
        table = schema["properties"]["mount"]["items"]["properties"]["directory"]["items"][
            "properties"]
    elif line == "## Before any table":
        table = schema["properties"]
    elif m := re.match(r"### `(\w+)`$", line):
        assert m[1] in table, m[1]
        count += 1
assert count > 100, count

for name in files:
    with open(name, encoding="utf-8") as f:
        good(f.read(), name)

# What the daemon prints, with all of its defaults.
good(subprocess.check_output([ovfs, "--check-config", "--shared-dir=/", "--socket-path=/tmp/s"],
                             text=True), "--check-config")

good('[cache_settings]\nsize = "4GiB"\nwrite_back_delay = "1m30s"\n'
     '[storage_settings]\ntype = "s3"\nsecret_access_key = "${env:KEY}"\n', "short")
good('include = ["a", "b"]\n[[mount]]\ntag = "t"\n[mount.socket_settings]\n'
     'socket_path = ["a", "b"]\n[[mount.directory]]\npath = "a/b"\n'
     '[mount.directory.storage_settings]\ntype = "memory"\n', "mounts")
bad("[cache_settings]\nsize = true\n")
bad('[cache_settings]\nsize = "4 GiB"\n')
bad('[cache_settings]\nwrite_back_delay = "5"\n')
bad("[cache_settings]\ndirty_limit = 91\n")
bad('[storage_settings]\ntype = "s4"\n')
bad('[storage_settings]\ntyp = "s3"\n')
bad("[storage_setings]\n")
bad('[[mount]]\n[mount.log]\nlevel = "info"\n')
bad('[[mount]]\n[[mount.directory]]\n[mount.directory.fuse_settings]\nxattr = true\n')
print("ok 1 - schema and daemon agree")
