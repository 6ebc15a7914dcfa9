# Every target sets up what it needs in .venv, from nothing but Python >= 3.11 and make; `make help` lists them.
# Another interpreter:  make PYTHON=python3.12 test   (after `rm -rf .venv` when one was made before)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := $(VENV)/oldest
# Two workers of one thread each: the tests' time is CPU time, and CI machines have two cores. With more cores:
# make test WORKERS=8
WORKERS ?= 2
PYTEST_ARGS ?=
# What `make oldest` runs: all that meets transformers, peft or accelerate.
OLDEST_TESTS ?= tests/emit/hf $(wildcard tests/emit/guard tests/reliability/test_r20*.py)
DEMO_ARGS ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test oldest lint format types bench soak docs wheel clean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # the targets share one .venv, and the benchmarks share the cores

help:  ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-train  ## record a real LoRA fine-tune on the CPU, offline, and report it
	$(BIN)/gradience demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev  ## all tests but the long ones of `make soak`
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not soak" $(PYTEST_ARGS)

# peft 0.18 warns of a base model that has no name, and those of the tests have none.
oldest: $(OLDEST)/.installed  ## the Hugging Face tests again, with the oldest libraries that the extra hf allows
	$(OLDEST)/bin/python scripts/oldest_versions.py
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist loadgroup -m "not soak" \
	  -W "ignore:Could not find a config file in:UserWarning" $(OLDEST_TESTS) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff check, ruff format --check, the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev  ## mypy and pyright, both strict, over the packages (settings in pyproject.toml)
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(VENV)/.installed-bench  ## run benchmarks/*.py one after the other and write benchmarks/results.md
	$(BIN)/python scripts/bench_results.py

soak: $(VENV)/.installed-dev  ## the reliability tests at full length, which takes long
	$(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST_ARGS)

docs: $(VENV)/.installed-dev  ## run every command and Python block of the README; check links, tables and the cheatsheet
	$(BIN)/python -m pytest tests/docs $(PYTEST_ARGS)

wheel: $(VENV)/.installed-dev  ## build wheel and sdist, install the wheel in clean environments, run tests/smoke against it
	bash scripts/wheel_job.sh $(BIN)/python

clean:  ## remove .venv and everything the tools leave behind
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment for all targets. A stamp says which extras it holds, as of pyproject.toml and constraints.txt.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
	  "Gradience needs Python 3.11 or newer, and '$(PYTHON)' is older or missing." \
	  "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-train: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@echo "Installing gradience[train] into $(VENV); the first time this takes minutes, most of them for torch."
	$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@echo "Installing gradience[dev] into $(VENV); the first time this takes minutes, most of them for torch."
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed-train

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	@echo "Installing gradience[dev,peers] into $(VENV); the first time this takes minutes, most of them for torch."
	$(INSTALL) -e '.[dev,peers]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed-train

# The libraries of constraints-oldest.txt in an environment of their own, which takes everything else, torch above all,
# from the one below: a .pth file adds its folders, after the own ones.
$(OLDEST)/.installed: constraints-oldest.txt $(VENV)/.installed-dev
	rm -rf $(OLDEST)
	$(BIN)/python -m venv --without-pip $(OLDEST)
	$(BIN)/python -m pip --python $(OLDEST)/bin/python install --quiet --disable-pip-version-check --no-deps \
	  -r constraints-oldest.txt
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(OLDEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	@touch $@
