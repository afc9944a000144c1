# Gonio. `make demo` shows it, `make test` checks it; both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup venv demo test lint types bench clean

help:
	@echo "make setup   create .venv with everything, and say what this machine lacks"
	@echo "make demo    the whole material pipeline on one material, ends with gonio-demo/report.html"
	@echo "make test    ruff, mypy and all tests"
	@echo "make lint    ruff only"
	@echo "make bench   the benchmarks that need no arguments"
	@echo "make clean   remove .venv, caches and the demo's output"

setup venv: $(READY)
	@$(BIN)/gonio doctor

$(READY): pyproject.toml scripts/install.sh
	PYTHON="$(PYTHON)" scripts/install.sh "$(VENV)"
	@touch $@

demo: $(READY)
	$(BIN)/gonio demo --out gonio-demo

test: lint types
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	set -e; for script in $$(grep -L "required=True" benchmarks/*.py | grep -v -e data_maps -e floor.py -e full_size); do echo "== $$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf $(VENV) gonio-demo build dist .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
