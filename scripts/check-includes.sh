#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# check-includes.sh [SRC]: which module may include which.
#
# The table below is the one place where the edges are written down. A file
# belongs to the module of its folder (the longest name of the table that its
# path starts with; `.` is src/*.c itself) and may include headers of its own
# module and of those named on its line. Prints each violation as FILE:LINE and
# fails on any, on a folder that the table does not know, and on an empty tree.
set -eu

# module: what it may include
edges='
base:
virtio:		base
fs:		base
fs/filefs:	base store cache fs
fs/joinfs:	fs base
fuse:		fs base
conf:		base
ctl:		base
sandbox:	base
store:		base
store/layers:	base store
store/services:	base store
store/services/s3: base store
cache:		base store
fs/objectfs:	base store cache fs
.:		base virtio fs fs/filefs fs/joinfs fs/objectfs fuse conf ctl sandbox cache store store/layers store/services store/services/s3
'

# Modules in which no file may include the header of another.
alone='
store/layers
'

# Headers that the build writes and one module uses; they have no folder.
generated='
syscalls.h:	sandbox
'

src=${1:-$(dirname "$0")/../src}
[ -d "$src" ] || { echo "check-includes: no folder $src" >&2; exit 2; }
cd "$src"

find . -name '*.[ch]' -o -name '*.cpp' -o -name '*.hpp' | sed 's,^\./,,' | sort |
	awk -v edges="$edges" -v alone="$alone" -v generated="$generated" '
	# The module that owns a path relative to src/, or "" when there is none.
	function owner(path,	dir) {
		dir = path
		if (!sub(/\/[^\/]*$/, "", dir))
			return "."
		while (!(dir in known)) {
			if (!sub(/\/[^\/]*$/, "", dir))
				return ""
		}
		return dir
	}

	# layers/retry of layers/retry.c.
	function stem(path) {
		sub(/\.[a-z]+$/, "", path)
		return path
	}

	function complain(what) {
		print what > "/dev/stderr"
		bad++
	}

	function check(file,	from, line, number, header, to) {
		from = owner(file)
		if (from == "") {
			complain("src/" file ": its folder is not in the table of scripts/check-includes.sh")
			return
		}
		files++
		while ((getline line < file) > 0) {
			number++
			if (line !~ /^[ \t]*#[ \t]*include[ \t]*"/)
				continue
			header = line
			sub(/^[^"]*"/, "", header)
			sub(/".*/, "", header)
			to = header in written ? written[header] : owner(header)
			if (header ~ /(^|\/)\.\.?\//)
				complain("src/" file ":" number ": \"" header "\": include as module/file.h, not by a relative path")
			else if (to == "." && from != ".")
				complain("src/" file ":" number ": \"" header "\": include as module/file.h")
			else if (to == "")
				complain("src/" file ":" number ": \"" header "\": no module of the table")
			else if (to != from && !((from, to) in allowed))
				complain("src/" file ":" number ": " from " may not include " to " (\"" header "\")")
			else if (to == from && (to in single) && stem(file) != stem(header))
				complain("src/" file ":" number ": files of " to " may not include one another (\"" header "\")")
		}
		close(file)
	}

	BEGIN {
		count = split(generated, lines, "\n")
		for (i = 1; i <= count; i++) {
			if (split(lines[i], words, /[: \t]+/) > 1)
				written[words[1]] = words[2]
		}
		split(alone, words)
		for (i in words)
			single[words[i]] = 1
		count = split(edges, lines, "\n")
		for (i = 1; i <= count; i++) {
			if (split(lines[i], words, /[: \t]+/) < 1 || words[1] == "")
				continue
			known[words[1]] = 1
			for (j = 2; j in words; j++)
				allowed[words[1], words[j]] = 1
		}
	}

	{ check($0) }

	END {
		if (!files) {
			print "check-includes: no source file in this folder" > "/dev/stderr"
			exit 2
		}
		exit bad > 0
	}'
