# Each target does its own set-up in a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all check bench setup clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later must run this; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/automl run --model deformable_detr --demo --trainings 8

# A test that hangs in native code, which no signal ends: its worker dies, and is told as crashed.
HANGS := -o faulthandler_timeout=1300 -o faulthandler_exit_on_timeout=true

test: $(VENV)/.installed-dev check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1 $(HANGS)

test-all: $(VENV)/.installed-dev check
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not gpu'

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases studies
	$(BIN)/python -m model.generate --check

bench: $(VENV)/.installed-dev
	$(BIN)/python studies/bench_ms_deform_attn/bench.py
	$(BIN)/python studies/bench_ms_deform_attn/train_step.py

clean:
	rm -rf $(VENV) build dist
