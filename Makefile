# make demo     a synthetic study through the whole way, in under three minutes (installs the core only, no torch);
#               make demo ARGS=--review leaves the node running and names the address of its reading room
# make quick    the tests that matter for most changes, in under 90 seconds
# make test     every check: import contracts, ruff, mypy, pytest (installs what it needs)
# make lint     the checks without the tests
# make docs     the documentation site in build/site; a dead link or an undocumented public name fails
# make dist     wheel and source archive, the wheel's parts listed (SBOM), and the demo from the wheel alone
# make licences the table of third-party licences, docs/licences.md, anew
# make lock     requirements/ anew: the newest versions that pyproject.toml allows
# make oldest   the core's tests with the oldest versions that pyproject.toml allows
# make newest   every test with the newest
# make mutants  plants faults in a copy and tells how many the tests catch (hours)
# make bench    what benchmarks/ measures, the models on ../shared/data
# make clean    removes what the others made

PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Byte code is made when a module is first imported: all of it at once would take half of the time.
LOCKED = $(PIP) install --no-compile --require-hashes
PACKAGE = $(PIP) install --no-compile --no-deps --no-build-isolation
SOURCES = $(shell find src -type f -not -name '*.pyc')
# How many processes test. By worksteal each takes half of the tests, in order, and the one that is done first some of
# the other's; by loadgroup and loadfile a test that ends its process is begun again for ever (pytest-xdist 3.8).
# Tests wait now and then, for peers and quiet times: three for two cores, as far as there are 3 GB of memory for each.
JOBS ?= $(shell $(PYTHON) -c "import os; b = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'); print(max(1, min(3 * os.cpu_count() // 2, b // 3_000_000_000)))")
PYTEST = $(VENV)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal

# The development environment holds the core too, as an editable install: once it is there, the demo runs in it.
CORE = $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.core)

# Packages are installed without byte code, so whoever forbids to write it would compile them at every start: 7 s for a node.
export PYTHONDONTWRITEBYTECODE =

.DELETE_ON_ERROR:
.PHONY: demo quick test lint docs dist licences lock oldest newest mutants bench clean

demo: $(CORE)
	$(if $(and $(filter --review,$(ARGS)),$(filter %/.core,$(CORE))),$(LOCKED) --requirement requirements/review.txt)
	$(VENV)/bin/mammoscope demo --out demo-output $(ARGS)

quick: $(VENV)/.dev
	$(PYTEST) -m 'not slow'

test: lint
	$(PYTEST)

lint: $(VENV)/.dev
	$(VENV)/bin/lint-imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python tools/licences.py --check

dist: $(VENV)/.dev
	$(VENV)/bin/python tools/dist.py

licences: $(VENV)/.dev
	$(VENV)/bin/python tools/licences.py

lock: $(VENV)/.dev
	$(VENV)/bin/python tools/lock.py --upgrade

oldest: $(VENV)/.dev
	$(VENV)/bin/python tools/versions.py oldest

newest: $(VENV)/.dev
	$(VENV)/bin/python tools/versions.py newest

mutants: $(VENV)/.dev
	$(VENV)/bin/python tools/mutants.py

docs: $(VENV)/.dev
	$(VENV)/bin/python -m mkdocs build --strict

bench: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/latency.py
	$(VENV)/bin/python benchmarks/accuracy.py
	$(VENV)/bin/python benchmarks/training.py
	$(VENV)/bin/python benchmarks/index.py
	$(VENV)/bin/python benchmarks/resume.py
	$(VENV)/bin/python benchmarks/import_dicom.py
	$(VENV)/bin/python benchmarks/review.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Mammoscope needs Python 3.11 or newer, and '$(PYTHON)' is not: name another, for example 'make PYTHON=python3.12 demo'." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml requirements/core.txt requirements/build.txt $(SOURCES)
	@echo "Installing Mammoscope's core into $(VENV) (about a minute)"
	$(LOCKED) --requirement requirements/core.txt --requirement requirements/build.txt
	$(PACKAGE) .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml requirements/dev.txt requirements/build.txt
	@echo "Installing Mammoscope with torch and the checks into $(VENV) (several minutes and gigabytes the first time)"
	$(LOCKED) --requirement requirements/dev.txt --requirement requirements/build.txt
	$(PACKAGE) --editable .
	@touch $@

clean:
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
