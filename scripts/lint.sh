#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a machine can say about the source without running it. Fails on any finding.
set -u
cd "$(dirname "$0")/.."
status=0

complain()
{
	echo "lint: $*" >&2
	status=1
}

# Module headers include only what DESIGN's table of edges allows.
scripts/check-includes.sh || status=1

# Every source file says under which licence it is.
while read -r file; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
		complain "$file: no SPDX-License-Identifier line"
done < <(git ls-files '*.c' '*.h' '*.cpp' '*.sh' '*.py' '*meson.build' Makefile .ci/run)

# Formatting, of C files as clang-format of Debian 12 sees it; other versions differ in
# places, so that only that one is asked (CI has a Debian 12 leg).
if clang-format --version | grep -q 'version 14\.'; then
	git ls-files 'src/*.c' 'src/*.h' 'tests/*.c' 'tests/*.h' |
		xargs clang-format --dry-run --Werror 2>/tmp/ovfs-lint.$$ || {
		grep -E 'error:' /tmp/ovfs-lint.$$ | cut -d: -f1 | sort | uniq -c |
			sed 's/^/lint: format: /' >&2
		complain "run: git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format -i"
	}
	rm -f /tmp/ovfs-lint.$$
else
	echo "lint: formatting not looked at: $(clang-format --version), not 14" >&2
fi

# Both compilers, all warnings, as errors.
for cc in gcc clang; do
	dir=build-lint-$cc
	[ -f $dir/build.ninja ] || CC=$cc CXX=$(echo $cc | sed "s,gcc,g++,;s,clang,clang++,") meson setup $dir --werror >/dev/null ||
		complain "meson setup with $cc failed"
	ninja -C $dir --quiet || complain "warnings with $cc"
done

# Shell scripts parse.
for script in $(git ls-files '*.sh' .ci/run); do
	bash -n "$script" || complain "$script does not parse"
done

[ $status -eq 0 ] && echo "lint: clean"
exit $status
