# Everything runs in a virtual environment of its own; nothing else has to be installed than python3, git and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOWEST ?= .venv-lowest
DEMO   ?= outputs/demo

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "make: ddpm-cli needs Python 3.11 to 3.13, $(PYTHON) is another; use make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "make: cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)"; exit 2; }
	@echo "make: installing into $(VENV) (torch is large: a few minutes, about 5 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -c 'import torch, torchvision; torchvision.ops.nms' || \
	  { echo "make: torch and torchvision do not fit together; remove $(VENV) and try again"; exit 2; }
	@touch $@

install: $(STAMP) ## make .venv and install into it (the other targets do this by themselves)

demo: $(STAMP) ## learn handwritten digits, show samples, make a GIF: about two minutes
	@$(BIN)/ddpm train run_dir=$(DEMO)/train trainer.budget=60s
	@$(BIN)/ddpm sample ckpt=$(DEMO)/train out=$(DEMO)/sample n=100
	@$(BIN)/ddpm gif ckpt=$(DEMO)/train out=$(DEMO)/denoise.gif
	@$(BIN)/ddpm gif ckpt=$(DEMO)/train out=$(DEMO)/forward.gif kind=forward

test: $(STAMP) ## the tests
	@$(BIN)/python -m pytest

test-avx2: $(STAMP) ## the tests of speed and of training again, as on a CPU that has AVX2 and nothing newer
	@ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	  TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/$(VENV)/inductor-avx2 \
	  $(BIN)/python -m pytest tests/hardware tests/models/test_kernels.py tests/training tests/sampling \
	  --ignore=tests/training/test_budget.py --ignore=tests/training/test_width.py

$(LOWEST)/.installed: pyproject.toml tests/lowest.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "make: the oldest versions need Python 3.11, $(PYTHON) is another; use make test-lowest PYTHON=python3.11"; exit 2; }
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python tests/lowest.py > $(LOWEST)/requirements.txt
	@echo "make: installing the oldest versions into $(LOWEST) (torch is large: a few minutes, about 5 GB)"
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(LOWEST)/requirements.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test-lowest: $(LOWEST)/.installed ## the tests with the oldest versions of all packages that pyproject.toml allows
	@$(LOWEST)/bin/python -m pytest

lint: $(STAMP) ## ruff and the type check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

torture: $(STAMP) ## kill runs for an hour, at every system call and at random (TORTURE=10h for longer)
	@DDPM_SLOW=1 $(BIN)/python -m pytest -q tests/config/test_sweeps.py tests/commands/test_runs.py
	@$(BIN)/python -m tests.torture

check: lint test test-avx2 ## linters, type check, tests

audit: $(STAMP) ## known vulnerabilities in the installed packages (asks the package index)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	@$(BIN)/python -m pip_audit --skip-editable --progress-spinner off

clean: ## remove the virtual environments, caches and build results (never outputs/)
	@rm -rf $(VENV) $(LOWEST) dist build .pytest_cache .mypy_cache .ruff_cache

.PHONY: help install demo test test-avx2 test-lowest torture lint check audit clean
.DEFAULT_GOAL := help
