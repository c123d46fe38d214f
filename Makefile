# Each target sets itself up: a virtual environment in .venv, installed anew only when setup.cfg or
# pyproject.toml change. Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Holds the checkout's path: scripts in a virtual environment name it, so a moved one is useless.
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# More arguments for pytest: make test ARGS="-k truncate"
ARGS ?=
# Which script of benchmarks/ to run
BENCH ?= export
# Where `make ui` listens
PORT ?= 3000
API_PORT ?= 8084

.DEFAULT_GOAL := help
.PHONY: help demo ui test lint format bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## See a real backup: PostgreSQL, LangChain's tables, the job, its result
	@$(BIN)/vector-backup demo

ui: $(INSTALLED) ## Open Dagster's UI and the API on the demo's database
	@$(BIN)/vector-backup demo --ui --port $(PORT) --api-port $(API_PORT)

# The tests start hundreds of processes, and none should compile the same code anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(INSTALLED) ## Run the tests, against real PostgreSQL 18 and 16
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

lint: $(INSTALLED) ## Check style, formatting, types and the arrows between packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Put style and formatting right where that can be done by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED) ## Measure against psql and a plain cursor, side by side (BENCH=export)
	$(BIN)/python benchmarks/$(BENCH).py

clean: ## Remove what the other targets made; backups outside the demo stay
	rm -rf $(VENV) .demo build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find vector_backup_pipeline vector_backup_pipeline_tests benchmarks \
		-name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not there. Install Python 3.10 or newer, or name one: make PYTHON=..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments. On Debian and Ubuntu:" \
			"apt-get install python3-venv" >&2; \
		exit 1; }
	@test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" && $(BIN)/python -c '' 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (a minute or two the first time)" >&2
	@$(PIP) install --upgrade pip
	@# setuptools warns of every editable installation; a newcomer need not read that.
	@PYTHONWARNINGS=ignore $(PIP) install --editable '.[dev]'
	@printf '%s' "$(CURDIR)" > $@

# A checkout that was moved since, or a Python that is gone.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif
