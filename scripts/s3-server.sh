#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# s3-server.sh: the S3 server that the tests run against, MinIO, built from its Go module.
#
#   scripts/s3-server.sh             build it if it is not there, print what there is
#   scripts/s3-server.sh path        the same, quietly; prints only the binary's path
#   scripts/s3-server.sh need-go     exit 0 when a Go must be installed before it can be built
#   scripts/s3-server.sh clean       remove it
#
# It is built once and kept as minio-VERSION/minio in the cache folder. That takes three
# minutes on two processors, 2 GB of disk while it runs and 110 MB afterwards.
#
# MinIO wants Go 1.24 or newer. An older one, as Debian 12 has it (package golang-go), is only
# used to fetch the newer one: Go's module proxy serves whole toolchains as modules.
# Everything that is fetched is checked: the module and the toolchain against the sums
# below, what the module itself requires against the go.sum inside of it.
#
# Settings (environment):
#   OVFS_CACHE   the cache folder; default ~/.cache/ovfs
#   and those of Go itself: GOPROXY, GOFLAGS ...
#
# Exit code: 0; 1 when it can not be built; 2 for wrong usage.

set -euo pipefail

version=v0.0.0-20260212201848-7aac2a2c5b7c
version_sum=h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA=
go_minor=24
go_version=go1.24.8
go_sum=h1:o+G6Bm1pZ2rOSrnuT3tg10gGH+a4AIwwBCOoVPwE1aI=
cache=${OVFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ovfs}
dir=$cache/minio-$version
log=$cache/minio-$version.log

say() { echo "s3-server: $*" >&2; }
die() { say "$*"; exit 1; }

# The second number of the version of the Go at $1: 19, 24 ...
go_minor_of() {
	GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p'
}

# A Go that is there already, the newest first; nothing when there is none.
go_find() {
	local candidate minor best=0 found=
	for candidate in "$(command -v go || :)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
		[ -x "$candidate" ] || continue
		minor=$(go_minor_of "$candidate")
		[ "${minor:-0}" -gt "$best" ] || continue
		best=$minor found=$candidate
	done
	echo "$found"
}

# Downloads module $1, whose sum must be $2; prints the folder that it is unpacked in.
module_fetch() {
	local answer
	[ -e "$work/go.mod" ] || (cd "$work" && "$go" mod init s3-server >/dev/null 2>&1)
	answer=$(cd "$work" && "$go" mod download -json "$1") || {
		echo "$answer" >&2
		die "cannot download $1"
	}
	echo "$answer" | grep -qF "\"Sum\": \"$2\"" ||
		die "$1 has another sum than expected: $(echo "$answer" | grep '"Sum"')"
	echo "$answer" | sed -nE 's/^\t"Dir": "(.*)",?$/\1/p'
}

# Go 1.21 and later can do this by themselves (GOTOOLCHAIN); older ones see a module like
# any other: its programs may not be run yet, its go.mod files carry other names.
toolchain_fetch() {
	local source
	say "fetching $go_version with $("$go" env GOVERSION)"
	source=$(module_fetch "golang.org/toolchain@v0.0.1-$go_version.linux-amd64" "$go_sum")
	chmod -R u+w "$source"
	mv "$source" "$work/goroot"
	chmod +x "$work"/goroot/bin/* "$work"/goroot/pkg/tool/*/*
	find "$work/goroot" -name _go.mod -execdir mv {} go.mod \;
	go=$work/goroot/bin/go
	[ "$(go_minor_of "$go")" = "$go_minor" ] || die "the fetched Go does not run"
}

# A line now and then: somebody waits.
progress() {
	local count=0 line next=$SECONDS
	while read -r line; do
		echo "$line" >>"$log"
		count=$((count + 1))
		[ "$SECONDS" -ge "$next" ] || continue
		next=$((SECONDS + 30))
		say "compiling, $count packages so far, at $line"
	done
}

build() {
	local source start=$SECONDS
	go=$(go_find)
	[ -n "$go" ] || die "there is no Go here: scripts/install-deps.sh service"
	work=$(mktemp -d "$cache/minio.XXXXXX")
	trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
	# Nothing is left in, or taken from, the caller's own Go folders.
	export GOMODCACHE=$work/mod GOCACHE=$work/build GOPATH=$work/path GOTOOLCHAIN=local
	export GOWORK=off CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false"
	unset GOROOT
	: >"$log"
	say "building MinIO $version, once, into $dir (log: $log)"
	[ "$(go_minor_of "$go")" -ge $go_minor ] || toolchain_fetch
	source=$(module_fetch "github.com/minio/minio@$version" "$version_sum")
	# Its own go.sum counts only where it is the main module, and that has to be
	# outside of the module cache.
	cp -r "$source" "$work/minio"
	chmod -R u+w "$work/minio"
	say "downloading what it requires"
	(cd "$work/minio" && "$go" mod download >>"$log" 2>&1) || {
		tail -n 20 "$log" >&2
		die "cannot download MinIO's modules, see $log"
	}
	(cd "$work/minio" &&
		nice "$go" build -v -trimpath -ldflags "-s -w" -o "$work/out/minio" . 2>&1) |
		progress || {
		tail -n 20 "$log" >&2
		die "cannot build MinIO, see $log"
	}
	"$work/out/minio" --version >>"$log" || die "the MinIO that was built does not run"
	rm -rf "$dir"
	mv "$work/out" "$dir"
	say "built in $((SECONDS - start)) s, $(du -sm "$dir" | cut -f1) MB"
}

verb=${1:-print}
case $verb in
print | path)
	if [ ! -x "$dir/minio" ]; then
		mkdir -p "$cache"
		# One builder at a time; who waited finds it built.
		exec 9>"$cache/minio-$version.lock"
		flock 9
		[ -x "$dir/minio" ] || build 9>&-
		exec 9>&-
	fi
	[ "$verb" = path ] || "$dir/minio" --version
	echo "$dir/minio"
	;;
need-go)
	[ ! -x "$dir/minio" ] && [ -z "$(go_find)" ]
	;;
clean)
	rm -rf "$dir" "$log" "$cache/minio-$version.lock"
	;;
*)
	sed -n '/^# s3-server.sh/,/^$/s/^# \?//p' "$0" >&2
	exit 2
	;;
esac
