# SPDX-License-Identifier: MIT
# The commands that people type; Meson does the work. `make help` lists them.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
SECONDS ?= 60
RELEASE ?= bookworm
ARGS    ?=

# make's built-in "cc" is no choice of anybody's: only a CC that was given counts.
ifeq ($(origin CC),default)
CC := gcc
endif
export CC

configured := $(BUILD)/.configured-$(notdir $(CC))
launcher   := $(BUILD)/userfault

all: $(configured)
	@ninja -C $(BUILD)

help:
	@echo 'make                    builds $(launcher) and the libraries beside it'
	@echo 'make run                runs stress-ng --userfaultfd on our facility, the kernel'"'"'s forbidden'
	@echo 'make test [ARGS=..]     all tests; ARGS go to meson test (a name, --suite=NAME)'
	@echo 'make stress [ARGS=..]   the races and sizes that take minutes, in full'
	@echo 'make bench [ARGS=..]    ratios against the kernel'"'"'s facility'
	@echo 'make fuzz SECONDS=n     random sequences on both backends, compared; hostile peers, if clang is there'
	@echo 'make aarch64            builds across for aarch64, and runs it under qemu-user'
	@echo 'make old-kernel         the conformance suite on Debian 12'"'"'s own kernel (6.1) in QEMU'
	@echo 'make lint               format, static analysis, shell scripts, man pages'
	@echo 'make install PREFIX=/usr/local DESTDIR='
	@echo 'make clean              removes $(BUILD), and what was built across beside it'
	@echo 'CC=clang works with each of them.'

# One stamp a group: a second run costs nothing, and removing the build folder asks again.
$(BUILD)/.setup-%: tools/setup
	@tools/setup $*
	@mkdir -p $(BUILD)
	@touch $@

# Another compiler needs a fresh configuration; the stamp is named after the compiler.
$(configured): | $(BUILD)/.setup-build
	@if [ -e $(BUILD)/build.ninja ]; then meson setup --wipe $(BUILD); else meson setup $(BUILD); fi
	@touch $@ $(BUILD)/.setup-build

run: all | $(BUILD)/.setup-test
	@tools/run-demo $(BUILD)

test: all | $(BUILD)/.setup-test
	@tools/run-tests $(BUILD) --no-rebuild $(ARGS)

# What `make test` runs with fewer pages and fewer times.
stress: all | $(BUILD)/.setup-test
	@tools/run-tests $(BUILD) --no-rebuild --benchmark --suite stress $(ARGS)

bench: all | $(BUILD)/.setup-bench
	@$(BUILD)/bench/userfault-bench $(ARGS)

# Across, beside the build folder, and every case that the emulator carries; make test runs some.
aarch64: $(configured) | $(BUILD)/.setup-test
	@tests/aarch64/run.py --all $(BUILD)

# An older kernel that is emulated, and every case; make test runs some.
old-kernel: all | $(BUILD)/.setup-test
	@tests/oldkernel/run.py --all --release=$(RELEASE) $(BUILD)

fuzz: all | $(BUILD)/.setup-test
	@$(BUILD)/tests/differential/difftest --seconds $(SECONDS) $(ARGS)
	@for side in server client postcopy-wire postcopy-sink postcopy-source; do \
	    if [ -x $(BUILD)/tests/fuzz/fuzz-$$side ]; then \
	        tests/fuzz/more.sh $(BUILD)/tests/fuzz/fuzz-$$side tests/fuzz/corpus/$$side $(SECONDS) || exit 1; \
	    fi; done

lint: $(configured) | $(BUILD)/.setup-lint
	@tools/lint $(BUILD)

# The prefix stands in userfault.pc and in the launcher, so it is configured, not only copied to.
install: all
	@meson configure $(BUILD) -Dprefix='$(PREFIX)'
	@ninja -C $(BUILD)
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD) --no-rebuild --quiet
	@if [ -z '$(DESTDIR)' ] && [ "`id -u`" = 0 ]; then ldconfig; fi

clean:
	@rm -rf $(BUILD) $(BUILD)-aarch64

.PHONY: all help run test stress bench aarch64 old-kernel fuzz lint install clean
