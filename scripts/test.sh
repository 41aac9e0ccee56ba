#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test.sh LEVEL...: builds and runs test levels; LEVEL is unit, frontend, service, guest or all.
#
# Ends with one line "N passed, N failed" that counts the cases of all levels; a level
# that could not run counts as a failure. The exit status says the same.
# Environment: BUILD (build directory), SANITIZE (meson's b_sanitize), SERVICE_JOBS (cases of the
# service level at a time, each with a server of its own; 2).
set -u
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
SANITIZE=${SANITIZE:-none}
passed=0 failed=0

die()
{
	echo "test.sh: $*" >&2
	echo "0 passed, 1 failed"
	exit 1
}

build()
{
	if [ ! -f "$BUILD/build.ninja" ]; then
		meson setup "$BUILD" -Db_sanitize="$SANITIZE" -Db_lundef=false >"$BUILD.setup.log" 2>&1 ||
			{ cat "$BUILD.setup.log"; die "meson setup failed"; }
		rm -f "$BUILD.setup.log"
	fi
	ninja -C "$BUILD" --quiet || die "build failed"
}

# The programs' own TAP lines are what counts, not the programs.
meson_level()
{
	local suite=$1 log="$BUILD/$1.tap" ok bad status patience=1

	# Sanitizers make everything slower, comparing bytes most of all.
	[ "$SANITIZE" = none ] || patience=6
	echo "== $suite"
	ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1} \
		UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1} \
		TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp} \
		CMOCKA_MESSAGE_OUTPUT=TAP \
		meson test -C "$BUILD" --no-rebuild --suite "$suite" --num-processes 2 --verbose \
		--timeout-multiplier $patience >"$log" 2>&1
	status=$?
	ok=$(grep -cE '^(.*[^[:alnum:]])?ok [0-9]+ ' "$log")
	bad=$(grep -cE '^(.*[^[:alnum:]])?(not ok [0-9]+ |ok [0-9]+ .*# SKIP)' "$log")
	ok=$((ok - bad))
	# A case that skipped itself (cmocka: "not ok ... # SKIP", or "ok ...") did not run: it fails.
	grep -hE '^(.*[^[:alnum:]])?(not ok [0-9]+ |ok [0-9]+ .*# SKIP)' "$log"
	if [ $status -ne 0 ]; then
		[ "$bad" -gt 0 ] || bad=1
		grep -vE '^(.* )?ok [0-9]+ ' "$log" | tail -n 200
	fi
	if [ $ok -eq 0 ] && [ "$bad" -eq 0 ]; then
		echo "the $suite level ran no test"
		bad=1
	fi
	echo "$suite: $ok passed, $bad failed"
	passed=$((passed + ok)) failed=$((failed + bad))
}

# A level with a program of its own, whose last line has the counts.
runner_level()
{
	local level=$1 log="$BUILD/$1.log" line ok bad status
	shift

	echo "== $level"
	"$@" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
	ok=${line%% *} bad=$(echo "$line" | sed -E 's/.*, ([0-9]+) failed/\1/')
	if [ -z "$line" ]; then
		echo "the $level level did not run to its end"
		ok=0 bad=1
	elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		echo "the $level level ended with exit status $status"
		bad=1
	fi
	echo "$level: $ok passed, $bad failed"
	passed=$((passed + ok)) failed=$((failed + bad))
}

[ $# -gt 0 ] || { echo "usage: test.sh unit|frontend|service|guest|all ..." >&2; exit 2; }
[ "$1" = all ] && set -- unit frontend service guest
build
for level in "$@"; do
	case $level in
	unit | frontend) meson_level "$level" ;;
	service) runner_level service tests/service/run --build "$PWD/$BUILD" --jobs "${SERVICE_JOBS:-2}" ;;
	guest) runner_level guest tests/guest/run --daemon "$PWD/$BUILD/ovfs" ;;
	*) die "unknown level $level" ;;
	esac
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
