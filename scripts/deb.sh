#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# deb.sh [OUTDIR]: builds the Debian package of what is committed, into OUTDIR (default: deb/),
# and has lintian look at it. Installs what that takes.
set -eu
cd "$(dirname "$0")/.."
out=${1:-deb}
mkdir -p "$out"
out=$(cd "$out" && pwd)
scripts/install-deps.sh package

version=$(sed -n "s/^ *version: '\(.*\)',$/\1/p" meson.build)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tree=$tmp/ovfs-$version
mkdir "$tree"
# What is committed; a tree without a repository (an unpacked archive), as it stands.
if git rev-parse --git-dir >/dev/null 2>&1; then
	git archive HEAD | tar -x -C "$tree"
	date=$(git log -1 --format=%aD)
else
	tar -c --exclude='./build*' --exclude=./deb . | tar -x -C "$tree"
	date=$(date -R)
fi
cp -r "$tree/packaging/debian" "$tree/debian"
for unit in ovfs ovfs@; do
	cp "$tree/packaging/systemd/$unit.service" "$tree/debian/$unit.service"
done
cat >"$tree/debian/changelog" <<END
ovfs ($version) unstable; urgency=medium

  * Built from the repository.

 -- The ovfs developers <ovfs@users.noreply.github.com>  $date
END
(cd "$tree" && dpkg-buildpackage --build=binary --no-sign --jobs=2) >"$tmp/log" 2>&1 || {
	grep -E "error|FAILED|undefined" "$tmp/log" | cut -c 1-300 | tail -n 20 >&2
	exit 1
}
rm -f "$out"/ovfs_*.deb "$out"/ovfs-dbgsym_*.deb
cp "$tmp"/*.deb "$out"
lintian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$tmp"/*.changes
ls "$out"/*.deb
