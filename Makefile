# make demo: set up, fit the wage panel, print the summary, write report.html.  make test: run the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types check clean

demo: .venv/ready
	$(BIN)/python -m hierpanel.demo

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

check: lint types test

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 12), "hierpanel needs Python 3.12 or newer; run: make PYTHON=python3.12"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache report.html
