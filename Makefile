# Everything sets itself up in .venv from Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
PHOTOS ?= ../shared/data/photos
BENCH ?= ../shared/data/bench
CLIPS ?= ../shared/data/clips
RUNS ?= runs/tiny
WORKERS ?= 2

.PHONY: demo test check bench train-tiny gpu-train gpu-bench clean

$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and by itself: where pip knows a CPU build of the pinned version, it takes that one.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(CORE)

$(READY): $(CORE)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(CORE)  ## restore the example photos, with films, into demo/
	$(BIN)/python benchmarks/demo.py --output demo

test: $(READY)  ## the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pyright --project pyright-strict.json
	$(BIN)/lint-imports

bench: $(READY)  ## quality and speed, into benchmarks/results/
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/counters.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/quality.py --data $(BENCH) --peers 2 --workers 2
	$(BIN)/python benchmarks/steering.py --data $(BENCH)
	$(BIN)/python benchmarks/confidence.py --data $(BENCH)
	$(BIN)/python benchmarks/footage.py --data $(CLIPS)
	$(BIN)/python benchmarks/tables.py

train-tiny: $(READY)  ## train the embedded model, or go on with it, into $(RUNS); $(RUNS)/footage/tiny.safetensors has all of it
	$(BIN)/unfade train tiny --photos $(PHOTOS) --runs $(RUNS) --workers $(WORKERS)
	$(BIN)/unfade train skills --photos $(PHOTOS) --weights $(RUNS)/tiny.safetensors --runs $(RUNS)/skills --workers $(WORKERS)
	$(BIN)/unfade train tiny --recipe further --photos $(PHOTOS) --start $(RUNS)/skills/tiny.safetensors --runs $(RUNS)/whole --workers $(WORKERS)
	$(BIN)/unfade train judgement --photos $(PHOTOS) --weights $(RUNS)/whole/tiny.safetensors -o $(RUNS)/judged.safetensors --doubt --workers $(WORKERS)
	$(BIN)/unfade train footage --photos $(PHOTOS) --weights $(RUNS)/judged.safetensors --runs $(RUNS)/footage --workers $(WORKERS)

# A lent GPU machine has its own PyTorch and no registry: where python3 can import torch, it is taken as it is.
GPU_PYTHON = $(shell $(PYTHON) -c 'import torch' 2>/dev/null && echo $(PYTHON) || echo $(BIN)/python)
GPU_READY = $(if $(filter $(PYTHON),$(GPU_PYTHON)),,$(CORE))

gpu-train: $(GPU_READY)  ## continue the shipped model on a GPU with bare PyTorch (CPU size without one)
	PYTHONPATH=src $(GPU_PYTHON) -m unfade.recipes.tiny_gpu --photos $(PHOTOS) --output $${OUT:-runs/gpu}

gpu-bench: $(if $(GPU_READY),$(READY))  ## seconds, memory, share of peak on a GPU (CPU size without one); WHEELS=DIR carries packages
	PYTHONPATH=src $(GPU_PYTHON) benchmarks/gpu.py --output $${OUT:-benchmarks/results} $(if $(WHEELS),--wheels $(WHEELS))

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
