# Needs Python 3.11 or newer, git and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TOOLS := $(VENV)/tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# torch comes first, and is in no lock: without an NVIDIA GPU its build for CPUs, 0.2 instead of 3 GB, if there is one.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
ifeq (,$(shell command -v nvidia-smi))
FOR_CPU := --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu
endif
# One more than there are cores: some tests only wait.
WORKERS = $(shell $(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))')
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes pyproject.toml
WITHOUT_TORCH := awk '/^[a-z]/ {kept = !/^(torch==|triton==|nvidia-|cuda-)/} kept || /^\#/'
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The command line tools of DVC and MLflow report home otherwise.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Without bytecode each of many short processes would spend seconds to compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help repro search study play ui test faults check bench lock

help:  ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: $(READY)  ## set everything up (2 min), then bring the report up to date (25 to 60 min on two cores; again: seconds)
	$(BIN)/python -m pipeline check
	$(BIN)/python -m pipeline repro
	@echo "The report: reports/index.html (or reports/summary.md); the runs: make ui"

search: $(READY)  ## how few layers, how few residual connections? (an Optuna study, 20 to 40 min; goes on where it stopped)
	$(BIN)/python -m pipeline check
	$(BIN)/dvc repro search
	@test -f reports/search/study.db || echo "That answer came with the repository, without the study behind it; to run it here: dvc repro --force --single-item search"

study: $(READY)  ## make study NAME=...: bring the report of studies/NAME up to date (one to four hours, of your own data less than one; goes on where it stopped); DATA=FILE [COLUMN=...]: of your own data
	$(if $(NAME),,$(error say which: make study NAME=...))
	$(BIN)/python -m pipeline study $(NAME) $(if $(DATA),--data '$(DATA)') $(if $(COLUMN),--column '$(COLUMN)')
	cd studies/$(NAME) && python -m pipeline check && python -m pipeline repro
	@echo "The report: studies/$(NAME)/reports/index.html"

play: $(READY)  ## ask trained models in the browser: type, shuffle, look inside (seconds)
	test -x $(BIN)/marimo || $(PIP) --no-build-isolation -e '.[play]'
	$(BIN)/marimo run notebooks/play.py

test: $(TOOLS)  ## set everything up, then run the tests, one of the whole pipeline among them (5 to 15 min)
	$(PYTEST) -m "not faults"

faults: $(TOOLS)  ## kill, starve and cut off real processes, disks, databases and clusters (10 to 20 min)
	$(PYTEST) -m faults

check: $(TOOLS)  ## linters and type checker (a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS)  ## how fast is it? (a table; 20 min)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/bench.py all

ui: $(READY)  ## MLflow's pages, on this machine (says their address; Ctrl-C ends it)
	$(BIN)/python -m pipeline ui

lock:  ## pin every version anew, from pyproject.toml, for every system (with uv)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet uv
	$(COMPILE) | $(WITHOUT_TORCH) > requirements.lock
	$(COMPILE) --extra dev | $(WITHOUT_TORCH) > requirements-dev.lock
	rm -rf .venv-lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH) $(FOR_CPU)
	$(PIP) --no-compile --no-deps -r requirements.lock
	@$(BIN)/python -c 'import torch' 2> /dev/null || { echo "no build of torch for CPUs could be had: all of it"; $(PIP) $(TORCH); }
	$(PIP) --no-deps --no-build-isolation -e .
	touch $(READY)

$(TOOLS): $(READY) requirements-dev.lock
	$(PIP) --no-compile --no-deps -r requirements-dev.lock
	touch $(TOOLS)
