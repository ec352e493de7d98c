# Every target makes the virtual environment that it needs; nothing is installed outside .venv.
# `make PYTHON=python3.12 test` chooses the interpreter.

PYTHON ?= python3
MINUTES ?= 10
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test fallback stress lint format types bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/core.done ## compare ten optimizers on handwritten digits; the report is out/digits/report.html
	$(BIN)/fallline compare digits --budget quick --out out/digits

test: lint types ## every check: ruff, mypy, import-linter, pytest with the doctests
	$(BIN)/pytest -q

fallback: $(VENV)/dev.done ## the tests as on a processor without vector units: BLAS and plain loops
	FALLLINE_CPU=x86-64-v2 $(BIN)/pytest -q tests/ops tests/compiler tests/train tests/nn

stress: $(VENV)/dev.done ## random programs, shapes, types, threads, concurrent plans, forks, for MINUTES=10
	$(BIN)/python -m tests.stress --minutes $(MINUTES)

lint: $(VENV)/dev.done ## ruff (rules and format) and the floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/dev.done ## mypy over the package
	$(BIN)/mypy

format: $(VENV)/dev.done ## rewrite the sources as ruff formats them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/bench.done ## speed, beside jax, torch and scikit-learn
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.kernels --markdown

clean: ## remove .venv and caches; results in out/ stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made:
	@sh scripts/make_venv.sh $(PYTHON) $(VENV)
	@touch $@

$(VENV)/core.done: $(VENV)/made pyproject.toml constraints.txt
	@echo "installing fallline into $(VENV)"
	$(PIP) -e .
	@touch $@

$(VENV)/%.done: $(VENV)/core.done
	@echo "installing what 'make $*' needs into $(VENV)"
	$(PIP) -e '.[$*]'
	@touch $@
