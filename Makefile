# Needs Python 3.11 or newer, git and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TOOLS := $(VENV)/tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# torch is installed first and is in no lock. Without an NVIDIA GPU its build for CPUs is used: 0.2 instead of 3 GB.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
ifeq (,$(shell command -v nvidia-smi))
FOR_CPU := --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu
endif
# One worker more than there are cores, because some tests only wait.
WORKERS = $(shell $(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))')
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes pyproject.toml
WITHOUT_TORCH := awk '/^[a-z]/ {kept = !/^(torch==|triton==|nvidia-|cuda-)/} kept || /^\#/'
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without these, the command line tools of DVC and MLflow send usage data.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Without cached bytecode, each of many short processes would spend seconds compiling its imports.
unexport PYTHONDONTWRITEBYTECODE

# Variables of `make study` count only on make's command line: systems set NAME or DATA in the environment for other purposes.
given = $(if $(findstring command line,$(origin $1)),$(value $1))
quoted = '$(subst ','\'',$(call given,$1))'

.PHONY: help repro search study play documents ui test faults check bench lock

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: $(READY)  ## install (2 min), then update the report (a quarter of an hour on two cores; again: seconds)
	$(BIN)/python -m pipeline check
	$(BIN)/python -m pipeline repro
	@echo "The report: reports/index.html (or reports/summary.md); the runs: make ui"

search: $(READY)  ## search for the fewest layers and residual connections, with Optuna (about 15 min; continues where it stopped)
	$(BIN)/python -m pipeline check
	$(BIN)/dvc repro search
	@test -f reports/search/study.db || echo "The results came with the repository, without the search behind them. To run it here: dvc repro --force --single-item search"

study: $(READY)  ## update the report of studies/NAME: make study NAME=... (one to four hours); with DATA=FILE [COLUMN=...] a study of your own file (an hour)
	$(if $(call given,NAME),,$(error name the study: make study NAME=...))
	$(BIN)/python -m pipeline study $(call quoted,NAME) $(if $(call given,DATA),--data $(call quoted,DATA)) $(if $(call given,COLUMN),--column $(call quoted,COLUMN))
	cd studies/$(call quoted,NAME) && python -m pipeline check && python -m pipeline repro
	@echo The report: studies/$(call quoted,NAME)/reports/index.html

play: $(READY)  ## try trained models in the browser: type, shuffle, look inside (seconds)
	test -x $(BIN)/marimo || $(PIP) --no-build-isolation -e '.[play]'
	$(BIN)/marimo run notebooks/play.py

documents: $(READY)  ## write README.md and other documents from their templates (seconds)
	$(BIN)/python -m pipeline documents

test: $(TOOLS)  ## install, then run the tests, one of the whole pipeline among them (5 to 15 min)
	$(PYTEST) -m "not faults"

faults: $(TOOLS)  ## test with killed processes, full disks, stopped databases and clusters (10 to 20 min)
	$(PYTEST) -m faults

check: $(TOOLS)  ## run the linters and the type checker (a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS)  ## measure speed and memory (prints a table; 20 min)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/bench.py all

ui: $(READY)  ## show the runs in MLflow's pages (prints their address; Ctrl-C ends it)
	$(BIN)/python -m pipeline ui

lock:  ## pin all versions again, from pyproject.toml, for every system (with uv)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet uv
	$(COMPILE) | $(WITHOUT_TORCH) > requirements.lock
	$(COMPILE) --extra dev | $(WITHOUT_TORCH) > requirements-dev.lock
	rm -rf .venv-lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; choose another: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH) $(FOR_CPU)
	$(PIP) --no-compile --no-deps -r requirements.lock
	@$(BIN)/python -c 'import torch' 2> /dev/null || { echo "no build of torch for CPUs was found; installing the full one"; $(PIP) $(TORCH); }
	$(PIP) --no-deps --no-build-isolation -e .
	touch $(READY)

$(TOOLS): $(READY) requirements-dev.lock
	$(PIP) --no-compile --no-deps -r requirements-dev.lock
	touch $(TOOLS)
