# `make train` and `make test` set up all that they need: a virtual environment with the pinned ranges.
PYTHON ?= python3
VENV ?= .venv
DATASET ?= synthetic
BENCH_DATASET ?= toys
READY := $(VENV)/.ready

.PHONY: train test test-distributed lint report bench bench-peers

train: $(READY)
	$(VENV)/bin/python train.py --dataset $(DATASET) $(ARGS)

test: $(READY)
	$(VENV)/bin/python -m pytest $(ARGS)

# Real processes on this machine, and virtual devices; `make test` runs them too.
test-distributed: $(READY)
	$(VENV)/bin/python -m pytest tests/distributed tests/test_hosts.py tests/training/test_devices.py tests/training/test_sharded_items.py $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# docs/results.md and its figures, from the runs kept in docs/results.
report: $(READY)
	$(VENV)/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt pyproject.toml
	$(VENV)/bin/python -m mqsa_jax report --results docs/results/benchmarks --out docs $(ARGS)

# The tables of docs/performance.md, as JSON in benchmarks/results; about 10 minutes on 2 quiet cores.
bench: $(READY)
	$(VENV)/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt pyproject.toml
	$(VENV)/bin/python -m benchmarks.epoch --dataset $(BENCH_DATASET)
	$(VENV)/bin/python -m benchmarks.inference --dataset $(BENCH_DATASET)
	$(VENV)/bin/python -m benchmarks.prepare
	$(VENV)/bin/python -m benchmarks.startup --dataset $(BENCH_DATASET)
	$(VENV)/bin/python -m benchmarks.scaling
	$(VENV)/bin/python -m benchmarks.population

# RecBole and RecTools, in environments of their own (a few GB).
bench-peers: $(READY)
	$(VENV)/bin/python -m benchmarks.peers --dataset $(BENCH_DATASET)

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt pyproject.toml
	touch $@
