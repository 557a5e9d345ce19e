# make demo     a synthetic study through the whole way, in under three minutes (installs the core only, no torch)
# make test     every check: import contracts, ruff, mypy, pytest (installs what it needs)
# make lint     the checks without the tests
# make bench    what benchmarks/ measures, the models on ../shared/data
# make clean    removes what the others made

PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
SOURCES = $(shell find src -type f -not -name '*.pyc')

# The development environment holds the core too, as an editable install: once it is there, the demo runs in it.
CORE = $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.core)

.DELETE_ON_ERROR:
.PHONY: demo test lint bench clean

demo: $(CORE)
	$(VENV)/bin/mammoscope demo --out demo-output

test: lint
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.dev
	$(VENV)/bin/lint-imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/latency.py
	$(VENV)/bin/python benchmarks/accuracy.py
	$(VENV)/bin/python benchmarks/training.py
	$(VENV)/bin/python benchmarks/index.py
	$(VENV)/bin/python benchmarks/resume.py
	$(VENV)/bin/python benchmarks/import_dicom.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Mammoscope needs Python 3.11 or newer, and '$(PYTHON)' is not: name another, for example 'make PYTHON=python3.12 demo'." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml $(SOURCES)
	@echo "Installing Mammoscope's core into $(VENV) (about a minute)"
	$(PIP) install .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	@echo "Installing Mammoscope with torch and the checks into $(VENV) (several minutes and gigabytes the first time)"
	$(PIP) install --editable '.[train,ray,dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
