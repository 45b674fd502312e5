# Needs Python 3.11 or newer, git and make. Everything else is installed into .venv, by uv if there is one (make UV=: by pip).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TOOLS := $(VENV)/tools
UV ?= $(shell command -v uv)
GPU := $(shell command -v nvidia-smi)
SYNC = $(UV) sync --quiet --locked --inexact $(if $(GPU),--no-group cpu --extra cuda) $(if $(call given,PYTHON),--python $(PYTHON))
EXPORT = $(UV) export --quiet --frozen --no-default-groups --group cpu --no-emit-project --no-emit-package torch
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# pip installs torch first, as it is not in requirements.lock. Without an NVIDIA GPU its build for CPUs is used: 0.2, not 3 GB.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
ifeq (,$(GPU))
FOR_CPU := --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu
endif
# One worker more than there are cores, because some tests only wait.
WORKERS = $(shell $(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))')
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without these, the command line tools of DVC and MLflow send usage data.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Settings of the user's pip, such as `user = true`, do not hold in a virtual environment.
export PIP_USER := 0
export UV_PROJECT_ENVIRONMENT := $(VENV)
UPGRADE := --upgrade
# Without cached bytecode, each of many short processes would spend seconds compiling its imports.
unexport PYTHONDONTWRITEBYTECODE

# Variables such as NAME count only on make's command line: systems set NAME or DATA in the environment for other purposes.
given = $(if $(findstring command line,$(origin $1)),$(value $1))
quoted = '$(subst ','\'',$(call given,$1))'

.PHONY: help repro search study play release documents ui test faults check bench lock

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: $(READY)  ## install (2 min), then update the report (a quarter of an hour on two cores; again: seconds)
	$(BIN)/python -m pipeline check
	$(BIN)/python -m pipeline repro
	@echo "The report: reports/index.html (or reports/summary.md); the runs: make ui"

search: $(READY)  ## search for the fewest layers and residual connections, with Optuna (about 20 min; continues where it stopped)
	$(BIN)/python -m pipeline check
	$(BIN)/dvc repro search
	@test -f reports/search/study.db || echo "The results came with the repository, without the search behind them. To run it here: dvc repro --force --single-item search"

study: $(READY)  ## update the report of studies/NAME: make study NAME=... (one to four hours); with DATA=FILE [COLUMN=...] a study of your own file (an hour)
	$(if $(call given,NAME),,$(error name the study: make study NAME=...))
	$(BIN)/python -m pipeline study $(call quoted,NAME) $(if $(call given,DATA),--data $(call quoted,DATA)) $(if $(call given,COLUMN),--column $(call quoted,COLUMN))
	cd studies/$(call quoted,NAME) && python -m pipeline check && python -m pipeline repro
	@echo The report: studies/$(call quoted,NAME)/reports/index.html

play:  ## open the page that runs trained networks in the browser; without a screen, print its path (needs no installation)
	@echo "The page: $(CURDIR)/reports/play.html"
	@test "$$(uname)" = Linux -a -z "$$DISPLAY$$WAYLAND_DISPLAY" || $(PYTHON) -m webbrowser "file://$(CURDIR)/reports/play.html"

release: $(READY)  ## write dist/breaking-symmetry-VERSION.tar.gz: weights, MLflow's store, pages (a minute)
	$(BIN)/python -m pipeline release

documents: $(READY)  ## write README.md and other documents from their templates (seconds)
	$(BIN)/python -m pipeline documents

test: $(TOOLS)  ## install, then run the tests, one of the whole pipeline among them (5 to 15 min)
	$(PYTEST) -m "not faults and not browser"

faults: $(TOOLS)  ## test with killed processes, full disks, stopped databases and clusters (10 to 20 min)
	$(PYTEST) -m faults

check: $(TOOLS)  ## run the linters and the type checker (a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS)  ## measure speed and memory (prints a table; 20 min)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/bench.py all

ui: $(READY)  ## show the runs in MLflow's pages (prints their address; Ctrl-C ends it); PORT=... HOST=...
	$(BIN)/python -m pipeline ui $(if $(call given,PORT),--port $(call quoted,PORT)) $(if $(call given,HOST),--host $(call quoted,HOST))

lock:  ## pin the newest versions that pyproject.toml allows, for Linux and macOS (needs uv); only what it changed: make lock UPGRADE=
	$(if $(UV),,$(error make lock needs uv: pip install uv))
	$(UV) lock $(UPGRADE)
	$(EXPORT) --output-file requirements.lock > /dev/null
	$(EXPORT) --group dev --output-file requirements-dev.lock > /dev/null

ifneq (,$(UV))
$(READY): uv.lock pyproject.toml
	$(SYNC) --no-dev
	touch $(READY)

$(TOOLS): $(READY)
	$(SYNC)
	touch $(TOOLS)
else
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; choose another: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null  # uv made it
	$(PIP) $(TORCH) $(FOR_CPU)
	$(PIP) --no-compile --no-deps -r requirements.lock
	@$(BIN)/python -c 'import torch' 2> /dev/null || { echo "no build of torch for CPUs was found; installing the full one"; $(PIP) $(TORCH); }
	$(PIP) --no-deps --no-build-isolation -e .
	touch $(READY)

$(TOOLS): $(READY) requirements-dev.lock
	$(PIP) --no-compile --no-deps -r requirements-dev.lock
	touch $(TOOLS)
endif
