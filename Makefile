# Everything starts here; `make help` lists it. Nothing is asked, and nothing outside the checkout and the user's cache
# directory changes but the system packages that `make setup` installs as root.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup build check lint unit test demo bench-replication bench-frontdoor bench-gateway crds lock clean

GO_VERSION := 1.26.8
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/domicile
GO_HOME := $(CACHE)/go/go$(GO_VERSION)
# The directory exists only where the machine had no Go that is new enough.
export PATH := $(GO_HOME)/bin:$(PATH)
BIN := .venv/bin

# The editable install links file by file: it is renewed when files come or go, not when they change.
SOURCES := $(sort $(shell find operator controllers backup gateway -name '*.py' -o -name 'py.typed' -o -name '*.txt'))
LOCKED := .venv/.locked-$(shell sha256sum requirements.lock | cut -c1-16)
EDITABLE := .venv/.editable-$(shell { cat pyproject.toml; echo $(SOURCES); } | sha256sum | cut -c1-16)

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 19

setup: ## Install what is missing: system packages (as root, Debian 12), Go, the virtual environment
	@.ci/setup $(GO_VERSION) $(GO_HOME)
	@$(MAKE) --silent $(EDITABLE)

$(LOCKED): requirements.lock
	@echo "setup: virtual environment .venv from requirements.lock (about 1 min)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: Python 3.11 or newer is needed")'
	@python3 -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@touch $@

$(EDITABLE): $(LOCKED)
	@echo "setup: linking the package into .venv (about 5 s)"
	@rm -rf .venv/.editable-* .venv/lib/python3*/site-packages/domicile build/__editable__.*
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings editable_mode=strict --editable .
	@touch $@

build: setup ## Build the testbed's servers and the images (30 min cold on 2 cores, seconds after)
	@echo "build: servers and images; cold about 30 min on 2 cores, seconds when cached in $(CACHE)"
	@$(BIN)/python -m tests.testbed.build
	@$(BIN)/python -m images.keycloak
	@$(BIN)/python -m tests.testbed.rootfs
	@$(BIN)/python -m images.build

lint: $(EDITABLE)
	@echo "check: ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "check: mypy"
	@$(BIN)/mypy -p domicile -p images
	@echo "check: import-linter"
	@$(BIN)/lint-imports --no-logo > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }

unit: $(EDITABLE)
	@echo "check: unit tests"
	@$(BIN)/python -m pytest --quiet tests/unit

check: $(EDITABLE) ## The inner loop: lint, types, layers, unit tests (below 60 s)
	@$(MAKE) --jobs=2 --output-sync=target lint unit

# The line that counts all tests comes last, after the coverage that is counted from their run.
test: ## Set up, build, check and run every test (warm about 45 min on 2 cores; the first time `build` comes on top)
	@$(MAKE) setup
	@$(MAKE) build lint
	@echo "test: integration and unit tests side by side, then end-to-end tests alone"
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m tests 2>&1 | tee .venv/pytest.log
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered
	@tail -n 1 .venv/pytest.log

demo: setup ## Show the main job on two clouds on this machine (root), or on those of DOMICILE_KUBECONFIG
	@$(BIN)/python -m tests.demo

bench-replication: setup ## Measure replication against rclone on a quiet machine (5 h; minutes with BENCH=--quick)
	@$(BIN)/python -m tests.bench $(BENCH)

bench-frontdoor: setup ## Measure the front door: what it adds, takes and costs (3 min on a quiet machine; less with BENCH=--quick)
	@$(BIN)/python -m tests.bench.frontdoor $(BENCH)

bench-gateway: setup ## Measure the gateway: what it finds, adds, takes and holds (3 min on a quiet machine; less with BENCH=--quick)
	@$(BIN)/python -m tests.bench.gateway $(BENCH)

crds: $(EDITABLE) ## Write crds/ from the models; the chart takes them from there
	@$(BIN)/python -m domicile.api.crd crds
	@echo "crds: wrote $$(ls crds | tr '\n' ' ')"

lock: $(EDITABLE) ## Pin every dependency of pyproject.toml with hashes, keeping the pins that still fit
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra gateway --generate-hashes --no-header \
		--output-file requirements.lock pyproject.toml

clean: ## Remove what was made in this checkout; the cache in the home directory stays
	@rm -rf .venv build dist *.egg-info .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
