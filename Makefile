# SPDX-License-Identifier: Apache-2.0
# A thin front of meson. `make` builds build/ovfs and installs nothing; the targets
# for people (demo, test, bench) first install what they need.

BUILD ?= build
ASAN_BUILD ?= build-asan
TSAN_BUILD ?= build-tsan
FUZZ_BUILD ?= build-fuzz
FUZZ_SECONDS ?= 20

.PHONY: all deps demo test check-unit check-frontend check-service check-guest check-asan check-tsan check-spin check-systemd \
	fuzz lint guard bench install deb clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { \
		echo "meson is missing: run scripts/install-deps.sh (Debian 12, 13)" >&2; exit 1; }
	meson setup $(BUILD)

deps:
	scripts/install-deps.sh

demo:
	scripts/demo.sh

# Every level; ends with one line "N passed, N failed".
test: deps
	scripts/test.sh all

check-unit check-frontend check-service check-guest: check-%:
	scripts/test.sh $*

# Unit and frontend levels under AddressSanitizer and UBSan, and under ThreadSanitizer.
check-asan:
	BUILD=$(ASAN_BUILD) SANITIZE=address,undefined scripts/test.sh unit frontend

check-tsan:
	BUILD=$(TSAN_BUILD) SANITIZE=thread scripts/test.sh unit frontend

# The model of the pool's free lists, by spin; also part of check-unit.
check-spin:
	tests/spin/run.sh

# The package and its units, with a real systemd.
check-systemd:
	scripts/install-deps.sh build package
	$(MAKE) all deb
	packaging/tests/systemd deb/ovfs_*.deb $(BUILD)/tests/service/fuse-pipe

# Each fuzz target for FUZZ_SECONDS, from its corpus in tests/fuzz/corpus.
fuzz:
	BUILD=$(FUZZ_BUILD) scripts/fuzz.sh $(FUZZ_SECONDS)

lint:
	scripts/lint.sh

# Instructions of the hot paths, against what they were.
guard: all
	bench/guard --build $(BUILD)

# 50 minutes, some ten with BENCH=quick; writes docs/performance.md.
bench:
	scripts/install-deps.sh build bench service
	$(MAKE) all
	bench/report --build $(BUILD)

install: all
	meson install -C $(BUILD)

# The Debian package, into deb/; lintian looks at it.
deb:
	scripts/deb.sh

clean:
	rm -rf $(BUILD) $(ASAN_BUILD) $(TSAN_BUILD) $(FUZZ_BUILD) deb
