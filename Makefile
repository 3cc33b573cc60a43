# Everything sets itself up in .venv from Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PHOTOS ?= ../shared/data/photos
BENCH ?= ../shared/data/bench
RUNS ?= runs/tiny

.PHONY: demo test check bench train-tiny gpu-train gpu-bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and pinned: any other way to it brings gigabytes of CUDA to a machine without a GPU.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## restore the example photos, with films, into demo/
	$(BIN)/python benchmarks/demo.py --output demo

test: $(READY)  ## the whole suite
	$(BIN)/python -m pytest

check: $(READY)  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pyright --project pyright-strict.json
	$(BIN)/lint-imports

bench: $(READY)  ## quality and speed, into benchmarks/results/
	$(BIN)/python benchmarks/quality.py --data $(BENCH) --output benchmarks/results/quality.json
	$(BIN)/python benchmarks/speed.py --output benchmarks/results/speed.json

train-tiny: $(READY)  ## train the embedded model, or go on with it, into $(RUNS)
	$(BIN)/unfade train tiny --photos $(PHOTOS) --runs $(RUNS)

gpu-train:  ## continue the shipped model on a GPU with the machine's own bare PyTorch (CPU size without one)
	PYTHONPATH=src $(PYTHON) -m unfade.recipes.tiny_gpu --photos $(PHOTOS) --output $${OUT:-runs/gpu}

gpu-bench:  ## seconds, memory and share of peak on a GPU (CPU size without one)
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py --output $${OUT:-benchmarks/results}

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
