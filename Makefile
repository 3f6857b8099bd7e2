# Everything runs in .venv, which is made on first use. Needs make and Python 3.11 or newer (PYTHON=... to choose one).

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo quick test lint alone parity fuzz slow clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     outline, count and list the nuclei of a real photograph, into demo-output/"
	@echo "make quick    under 40 seconds: the layout, the lower rooms, one model through the contract; after every change"
	@echo "make test     lint, then every fast test"
	@echo "make lint     ruff and mypy"
	@echo "make parity   compare with torchvision; PHOTOS=FOLDER adds a table over your photographs"
	@echo "make fuzz     mutated files through every reader for an hour; SECONDS=..., SEED=..."
	@echo "make slow     the tests that need minutes or the development data"
	@echo "make clean    remove caches and demo-output/ (.venv and runs/ stay)"

# The stamp is as new as the last installation that went through.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "halfpixel needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv (a few minutes and about 5 GB the first time)"
	@$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The lower rooms and what others rely on. One model stands for all, and a toy for those that are to come.
QUICK := tests/test_layers.py tests/test_public_api.py tests/ops tests/structures tests/nn tests/test_model_contract.py

quick: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses auto --dist worksteal $(QUICK) \
		-k "(not test_model_contract or mask_rcnn_lite or toy_query) and not gradcheck and not by_heart"

# Lint and the tests that must be alone have a core each; then a process for each core, of one thread each: half the
# time of one process with all cores.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 2 lint alone
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow and not alone"

alone: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet -m "alone and not slow"

parity: $(INSTALLED)
	@$(BIN)/python -m pytest tests/parity
ifdef PHOTOS
	@$(BIN)/python tests/parity/photographs.py "$(PHOTOS)" --variant v1
	@$(BIN)/python tests/parity/photographs.py "$(PHOTOS)" --variant v1 --frozen
	@$(BIN)/python tests/parity/photographs.py "$(PHOTOS)" --variant v2
endif

SECONDS ?= 3600
SEED ?= $(shell date +%s)

fuzz: $(INSTALLED)
	@$(BIN)/python tests/fuzz/fuzz.py --seed $(SEED) --seconds $(SECONDS) --keep runs/fuzz

slow: $(INSTALLED)
	@$(BIN)/python -m pytest -m slow

clean:
	@rm -rf demo-output dist .mypy_cache .pytest_cache .ruff_cache
	@find src tests benchmarks examples -type d -name __pycache__ -prune -exec rm -rf {} +
