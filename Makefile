# `make train` and `make test` set up all that they need: a virtual environment with the pinned ranges.
PYTHON ?= python3
VENV ?= .venv
DATASET ?= synthetic
READY := $(VENV)/.ready

.PHONY: train test lint

train: $(READY)
	$(VENV)/bin/python train.py --dataset $(DATASET) $(ARGS)

test: $(READY)
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@
