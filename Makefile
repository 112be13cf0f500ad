# `make` alone lists the targets. Everything they do lives in the builder, in pyproject.toml or in scripts/.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BACKEND ?= cpu
BIN := .venv/bin
STAMP := .venv/.installed-$(subst /,_,$(TORCH))

.DEFAULT_GOAL := help
.PHONY: help install sycl cuda build test check fmt lint type golden gpu-check audit doctor clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml scripts/install.sh
	@PYTHON='$(PYTHON)' TORCH='$(TORCH)' scripts/install.sh && rm -f .venv/.installed-* && touch '$@'

install: $(STAMP) ## Make .venv with the package, torch (TORCH=...) and the development tools

sycl: install ## Fetch the SYCL runtime, with which tests run the kernels for Intel GPUs on the CPU (1.5 GB, in .venv/sycl)
	@$(BIN)/python -m venv --without-pip .venv/sycl
	@$(BIN)/python -m pip --python .venv/sycl/bin/python install --quiet --disable-pip-version-check --no-deps --group sycl

cuda: install ## Fetch CUDA's compiler where it is not installed, with which tests compile what is for NVIDIA GPUs (300 MB)
	@$(BIN)/kernel-builder sdk fetch --cuda 13.0 --compiler

build: install ## Build the kernels of build.toml for this host (BACKEND=cuda: its GPU ones), audit them, show them working
	@$(BIN)/kernel-builder build --backend $(BACKEND) && $(BIN)/python examples/attention.py

test: install ## Run every test that can run here (PYTEST="..." adds arguments)
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(PYTEST)

check: lint type ## What CI checks besides the tests: format, lint, types

fmt: install ## Format the Python code and apply safe fixes
	@$(BIN)/ruff format && $(BIN)/ruff check --fix

lint: install ## Lint, and check the format
	@$(BIN)/ruff format --check && $(BIN)/ruff check

type: install ## Check types
	@$(BIN)/mypy

golden: install ## Rewrite the golden files; read the diff before you commit it
	@UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/golden

gpu-check: install ## Hold the CUDA artifact in build/, or one made now, against fp64 and torch on a GPU (needs a CUDA torch)
	@$(BIN)/python scripts/gpu_check.py

audit: install ## Audit the artifacts in build/
	@$(BIN)/kernel-builder audit

doctor: install ## Show what this machine can build, and what it lacks
	@$(BIN)/kernel-builder doctor

clean: install ## Remove what the builder made
	@$(BIN)/kernel-builder clean
