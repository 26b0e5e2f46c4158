# `make` lists the targets. Each prepares what it needs: a fresh clone and Python 3.11 or newer are enough.
#
#   PYTHON=python3.12   the Python to make the virtual environment with
#   VENV=/somewhere     where the virtual environment is
#   ARGS="-k word -x"   more arguments for pytest, bowerbird or the benchmark
#   TESTS_AT_ONCE=1     how many tests run at once, each with a database of its own

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
TESTS_AT_ONCE ?= 2
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
# An environment is up to date if its stamp is newer than what it was made from.
RUNTIME := $(VENV)/.bowerbird-runtime
DEV := $(VENV)/.bowerbird-dev

.DEFAULT_GOAL := help
.PHONY: help demo up test stress rabbitmq-4 check bench bench-scale bench-fleet lock clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1 - /p' Makefile | awk -F' - ' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: $(RUNTIME) ## See it work: collect, compile, export and flatten a small sample
	@$(VENV)/bin/bowerbird demo $(ARGS)

up: $(RUNTIME) ## Run all services on this machine until Ctrl-C
	@$(VENV)/bin/bowerbird up $(ARGS)

test: $(DEV) ## Run the tests
	@$(PY) -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(DEV) ## Run the linters, the type checker and the boundaries test, and check the pins
	@$(PY) -m pip check
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_boundaries.py

stress: $(DEV) ## Kill, freeze and restart everything while jobs run
	@$(PY) -m tests.stress $(ARGS)

rabbitmq-4: ## As root on Debian, unpack RabbitMQ 4 for the tests (ARGS="/folder release"), changing nothing else
	@tests/unpack-rabbitmq.sh $(ARGS)

bench: $(DEV) ## Measure each part beside its peer (ARGS="small jobs export"); docs/performance.md
	@$(PY) -m bench $(ARGS)

bench-scale: $(DEV) ## Measure how far it scales
	@$(PY) bench/scale.py $(ARGS)

bench-fleet: $(DEV) ## Measure a thousand collections that are due at once
	@$(PY) -m bench.fleet $(ARGS)

lock: $(DEV) ## Pin what pyproject.toml asks for (UPGRADE=--upgrade: the newest versions)
	@$(PIP) install uv
	@$(PY) -m uv $(LOCK) --output-file requirements.txt pyproject.toml
	@$(PY) -m uv $(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

# One set of pins for every Python and system that the suite runs on; markers say where they differ.
LOCK = pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate $(UPGRADE)

clean: ## Delete the virtual environment and everything else that is made again
	@if [ -e $(VENV)/.bowerbird ]; then rm -rf $(VENV); fi
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find shared services tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f services/*/*.so

$(RUNTIME): requirements.txt pyproject.toml $(wildcard services/*/*.[ch]) | $(VENV)/.bowerbird
	@echo "Installing what Bowerbird needs into $(VENV) ..."
	@$(PIP) install --requirement requirements.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	@echo "Installing what its tests need ..."
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@

$(VENV)/.bowerbird:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Bowerbird needs Python 3.11 or newer, and $(PYTHON) is none. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
