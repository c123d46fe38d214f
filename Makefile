# Each target creates the virtual environment .venv if necessary; it is reinstalled only when setup.cfg
# or pyproject.toml change. Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Contains the checkout's path: a virtual environment does not work after it was moved.
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# More arguments for pytest: make test ARGS="-k truncate"
ARGS ?=
# Which script of benchmarks/ to run
BENCH ?= export
# Ports of `make ui`
PORT ?= 3000
API_PORT ?= 8084

.DEFAULT_GOAL := help
.PHONY: help demo ui test lint format bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Run a sample backup and a restore test with an embedded PostgreSQL
	@$(BIN)/vector-backup demo

ui: $(INSTALLED) ## Open Dagster's UI and the API on the demo's database
	@$(BIN)/vector-backup demo --ui --port $(PORT) --api-port $(API_PORT)

# The tests start hundreds of processes, which should not write bytecode concurrently.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(INSTALLED) ## Run the tests, against real PostgreSQL 18 and 16
	@# One more than most machines' two cores: many tests wait for a server.
	$(BIN)/python -m pytest --numprocesses 3 $(ARGS)

lint: $(INSTALLED) ## Check style, formatting, types and the imports between packages
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Fix style and formatting automatically
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED) ## Compare the speed with psql and a plain cursor (BENCH=export)
	$(BIN)/python benchmarks/$(BENCH).py

clean: ## Remove the files created by the other targets, including the demo's backups
	rm -rf $(VENV) .demo build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find vector_backup_pipeline vector_backup_pipeline_tests benchmarks \
		-name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.10 or newer, or set it: make PYTHON=..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is required, $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Set another one: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu:" \
			"apt-get install python3-venv" >&2; \
		exit 1; }
	@test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" && $(BIN)/python -c '' 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (a minute or two the first time)" >&2
	@$(PIP) install --upgrade pip
	@# setuptools warns about every editable installation.
	@PYTHONWARNINGS=ignore $(PIP) install --editable '.[dev]'
	@printf '%s' "$(CURDIR)" > $@

# The checkout was moved, or its Python was removed.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif
