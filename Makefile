# A fresh machine needs Python >= 3.11 with pip, and make. Start with `make run`.

VENV ?= .venv
PY := $(VENV)/bin/python
MADE := $(VENV)/.made
export OMP_NUM_THREADS ?= 1

.PHONY: help run test lint docs test-long bench
.DEFAULT_GOAL := help

help:
	@echo "make run        a whole session on a simulated microscope: acquisition, cells, a report"
	@echo "make test       lint, types, import rule, documentation and tests"
	@echo "make docs       the documentation as a site, in site/"
	@echo "make test-long  the statistics that take minutes, and the benchmarks"
	@echo "make bench      the benchmarks alone (our figures against their bars and peers)"

run: $(MADE)
	$(VENV)/bin/ewaldflow demo

test: lint docs
	$(PY) -m pytest -m "not long" -n 2 --dist loadfile

lint: $(MADE)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# a warning is an error; nothing is fetched
docs: $(MADE)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

test-long: $(MADE)
	$(PY) -m pytest -m long
	$(MAKE) bench

bench: $(MADE)
	@set -e; failed=0; for script in benchmarks/[a-z]*.py; do \
	  [ -e "$$script" ] || continue; \
	  echo "== $$script"; code=0; $(PY) "$$script" || code=$$?; \
	  [ $$code -eq 0 ] || [ $$code -eq 77 ] || failed=1; \
	done; exit $$failed

# The environment is made once, and again only when what it is made from has changed.
# The first interpreter that really starts is taken (a name on the PATH may be an empty shim).
$(MADE): pyproject.toml constraints.txt
	@set -e; if ! $(PY) -c "" 2>/dev/null; then \
	  for python in python3.13 python3.12 python3.11 python3; do \
	    if $$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	      2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "make: found no Python 3.11 to 3.13 on the PATH; install one and try again" >&2; exit 2; \
	  fi; \
	  echo "Making $(VENV) with $$found; this takes a few minutes, once."; \
	  $$found -m venv $(VENV) 2>/dev/null || { $$found -m venv --clear --without-pip $(VENV) \
	    && $$found -m pip --python $(PY) install --quiet pip; }; \
	fi
	$(PY) -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,all]'
	@touch $@
