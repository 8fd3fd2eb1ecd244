# make demo and make test set everything up by themselves: Python packages in .venv, native libraries
# by apt where they are missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DELETE_ON_ERROR:
.PHONY: help setup demo test check docs samples clean

help:
	@echo "make demo     audit the embedded example (writes demo/audit/report.html)"
	@echo "make test     check and test everything"
	@echo "make docs     build the documentation (writes build/docs/index.html)"
	@echo "make samples  regenerate sample_reports/"
	@echo "make clean    remove what was made"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $@ $(VENV)/.ready-docs

demo: setup
	@echo "Training a small classifier with planted shortcuts, then auditing it (some minutes)."
	@$(BIN)/auditor demo --out demo

# Files stay in their order, in which the long ones do not come last and leave a worker idle.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 check docs
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: $(VENV)/.ready-docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs
	@echo "build/docs/index.html"

# The site needs neither the program nor what it needs: signatures are read from the source.
$(VENV)/.ready-docs: pyproject.toml
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check $$($(BIN)/python -c "import tomllib; \
	    print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@

samples: setup
	@$(BIN)/python tools/samples.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info
