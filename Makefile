# Two commands do everything: `make run` trains, `make test` tests.  Both make their environment first.

PYTHON ?= python3
VENV ?= .venv
ALGO ?= espo
ARGS ?=
BIN := $(VENV)/bin

.PHONY: help run test check wheel nano docs clean

help:
	@echo "make run [ALGO=espo] [ARGS='--train.steps 20']   train; see '$(BIN)/llmrl train --help'"
	@echo "make test     format, lint, types, tests, and the built wheel in an empty folder"
	@echo "make nano     train the embedded policy anew (about an hour on two cores)"
	@echo "make docs     write the generated parts of docs/"
	@echo "make clean    remove the environment and what was built"

$(BIN)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(BIN)/.dev: $(BIN)/.base
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

run: $(BIN)/.base
	$(BIN)/python -m llmrl.algorithms.run --algo $(ALGO) $(ARGS)

test: $(BIN)/.dev check
	$(BIN)/python -m pytest $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel: $(BIN)/.dev
	bash tests/wheel.sh $(BIN)/python

nano: $(BIN)/.base
	$(BIN)/python -m llmrl.policies.nano.train --output runs/nano

docs: $(BIN)/.base
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info
