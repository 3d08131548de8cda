# SPDX-License-Identifier: Apache-2.0
# Everyday commands. The build itself is CMake's: CMakeLists.txt and CMakePresets.json.
SHELL         := /bin/bash
.SHELLFLAGS   := -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS     += --no-print-directory
PREFIX        ?= /usr/local
# Tests count in quarters of a processor (tests/CMakeLists.txt).
CTEST         := ctest --output-on-failure --no-tests=error --parallel $(shell echo $$((4 * $$(nproc))))

# Configures build folder $(2) from preset $(1) once (ninja does it again when needed) and builds
# everything, or target $(3).
# With no terminal to draw progress on, only problems are printed.
define cmake_build
	@test -f $(2)/build.ninja || cmake --preset $(1) >/dev/null
	@if [ -t 1 ]; then ninja -C $(2) $(3); \
	else ninja -C $(2) --quiet $(3) | sed '/^ninja: no work to do/d; /^-- /d'; fi
endef

.PHONY: help
help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup:
	@tools/setup.sh build

# npm, for the page of moxie report, and the launchers and the browser that tests start. Where they may
# not be installed, those tests are skipped.
.PHONY: setup-test
setup-test:
	@tools/setup.sh build report test || { tools/setup.sh build && \
		echo "make: going on; the tests of what is missing are skipped" >&2; }

.PHONY: build
build: setup ## install what is missing, build build/moxie and build/libmoxie.so
	$(call cmake_build,release,build)

.PHONY: run
run: build ## the benchmark (4 ranks, or one a GPU): uniform routing, then the routing of a real text
	@build/moxie bench --output-dir results
	@build/moxie bench --routing text:share/texts/moby-dick.txt --output-dir results

.PHONY: bench
bench: build ## the benchmark with your flags: make bench ARGS="--ranks 2 --layout expert_major"
	@build/moxie bench $(ARGS)

.PHONY: test
test: setup-test build ## all tests but the long ones
	@$(CTEST) --test-dir build

.PHONY: asan
asan: setup-test ## the tests under the address and undefined-behaviour sanitizers
	$(call cmake_build,asan,build-asan)
	@$(CTEST) --test-dir build-asan

# The thread sanitizer sees threads only: tests whose ranks are processes would show it nothing.
PROCESS_TESTS := processes|streamed|launchers|cli_|fault|attribution|strangers|baseline|example|report_

.PHONY: tsan
tsan: setup-test ## the tests under the thread sanitizer, ranks as threads of one process
	$(call cmake_build,tsan,build-tsan)
	@MOXIE_TEST_RANKS=threads $(CTEST) --test-dir build-tsan -E '$(PROCESS_TESTS)'

FUZZ_SECONDS ?= 20

.PHONY: fuzz
fuzz: setup ## libFuzzer on every parser, FUZZ_SECONDS (20) each
	@tools/setup.sh checks
	$(call cmake_build,fuzz,build-fuzz,fuzzers)
	@tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS)

.PHONY: model
model: setup ## the protocol's model (SPIN) and its memory orders (Relacy)
	@tools/setup.sh checks
	@tests/model/run_spin.sh --full
	@tests/model/run_relacy.sh

.PHONY: coverage
coverage: setup ## which lines the tests run: build-coverage/coverage.html
	@tools/setup.sh checks
	$(call cmake_build,coverage,build-coverage)
	@tools/coverage.sh build-coverage

.PHONY: soak
soak: build ## the tests that take long
	@ctest --output-on-failure --no-tests=error --test-dir build -C soak -L soak

.PHONY: tidy
tidy: build ## the rules of CONTRIBUTING.md, formatting and static analysis
	@tools/setup.sh tidy
	@tools/tidy/tidy
	@tools/tidy/analyse

.PHONY: format
format: ## clang-format, in place
	@tools/setup.sh tidy
	@find src include tests examples \( -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' \
		-o -name '*.cuh' \) -print0 | \
		xargs -0 clang-format -i

.PHONY: docs
docs: build ## API reference: build/docs/html/index.html and man pages in build/docs/man
	@tools/setup.sh docs
	@cmake --build build --target docs

.PHONY: package
package: build ## build/package: what another machine needs, a GPU machine say (docs/gpu-machine.md)
	@tools/setup.sh package
	@tools/package.sh build/package

.PHONY: install
install: build ## into PREFIX (/usr/local), below DESTDIR when that is set
	@cmake --install build --prefix $(PREFIX) >build/install.log || \
		{ cat build/install.log; false; }
	@echo "installed below $(DESTDIR)$(PREFIX); the files are in build/install_manifest.txt"

.PHONY: clean
clean: ## remove what was built; results/ stays
	@rm -rf build build-debug build-asan build-tsan build-fuzz build-coverage
