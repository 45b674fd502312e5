# Needs Python 3.11 or newer, git and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The command line tools of DVC and MLflow report home otherwise.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help repro search study test check bench ui lock

help:  ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: $(READY)  ## set everything up, then bring the report up to date, on all cores or GPUs
	$(BIN)/python -m pipeline check
	$(BIN)/python -m pipeline grid
	@echo "The report: reports/index.html (or reports/summary.md); the runs: make ui"

search: $(READY)  ## how few layers, how few residual connections? (an Optuna study; goes on where it stopped)
	$(BIN)/python -m pipeline check
	$(BIN)/dvc repro search

study: $(READY)  ## make study NAME=...: bring the report of studies/NAME up to date
	$(if $(NAME),,$(error say which: make study NAME=...))
	$(BIN)/python -m pipeline study $(NAME)
	cd studies/$(NAME) && python -m pipeline check && python -m pipeline grid
	@echo "The report: studies/$(NAME)/reports/index.html"

test: $(READY)  ## set everything up, then run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(READY)  ## linters and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## how fast is it? (a table; twenty minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/bench.py all

ui: $(READY)  ## MLflow's pages on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

lock:  ## pin every version anew, from pyproject.toml
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[dev]'
	.venv-lock/bin/python -m pip freeze --exclude breaking-symmetry \
		| sed -E 's/^(torch==[0-9.]+)\+.*/\1/' | grep -viE '^(nvidia|cuda|triton)' > requirements.lock
	rm -rf .venv-lock build

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)
