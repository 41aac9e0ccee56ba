#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh SECONDS: builds the fuzz targets with clang and runs each for SECONDS, starting
# from its corpus. A crash, a leak or a hang fails; its input is left in BUILD/crashes.
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build-fuzz}
seconds=${1:-20}
passed=0 failed=0

if [ ! -f "$BUILD/build.ninja" ]; then
	CC=clang CXX=clang++ meson setup "$BUILD" -Dfuzz=true -Db_sanitize=address,undefined \
		-Db_lundef=false >/dev/null || { echo "0 passed, 1 failed"; exit 1; }
fi
ninja -C "$BUILD" --quiet || { echo "0 passed, 1 failed"; exit 1; }
mkdir -p "$BUILD/crashes"
for target in "$BUILD"/tests/fuzz/fuzz-*; do
	[ -x "$target" ] && [ -f "$target" ] || continue
	name=$(basename "$target") name=${name#fuzz-}
	mkdir -p "$BUILD/corpus/$name"
	if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix="$BUILD/crashes/$name-" \
		"$BUILD/corpus/$name" "tests/fuzz/corpus/$name" >"$BUILD/$name.log" 2>&1; then
		echo "ok - fuzz $name: $(grep -o 'number_of_executed_units.*' "$BUILD/$name.log")"
		passed=$((passed + 1))
	else
		tail -n 60 "$BUILD/$name.log"
		echo "not ok - fuzz $name (inputs in $BUILD/crashes)"
		failed=$((failed + 1))
	fi
done
if [ $((passed + failed)) -eq 0 ]; then
	echo "no fuzz target was built"
	failed=1
fi
echo "fuzz: $passed passed, $failed failed"
[ $failed -eq 0 ]
