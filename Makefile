# MuseBridge. `make help` lists what can be made.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup
SOURCES := pyproject.toml constraints.txt
# More for pytest: make test ARGS='-k scheduler', or ARGS=--cov to see how much of the code the tests reach.
ARGS :=
# The pure core, the codec, files and the command line: neither torch nor a MIDI system.
QUICK := tests/bridge/core tests/bridge/ports/test_backends.py $(filter-out %_training.py %_benchmarks.py %_shipped_model.py,$(wildcard tests/test_*.py))
# What the wheels must be there for: each Python, on each system that musicians have.
WHEEL_PYTHONS := 3.11 3.12 3.13 3.14
WHEEL_SYSTEMS := x86_64-pc-windows-msvc aarch64-apple-darwin x86_64-manylinux_2_28 aarch64-manylinux_2_28

PLUGIN := build/musebridge.lv2
SUFFIX := $(if $(filter Darwin,$(shell uname)),.dylib,.so)

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

play: $(VENV)/play.installed ## hear it: a bundled performance plays, the model answers (writes out/)
	$(BIN)/musebridge demo

test: $(VENV)/dev.installed ## run every test; the last lines say what could not run here
	$(PYTEST) $(ARGS)

quick: $(VENV)/quick.installed ## run the quick tests: core, codec, files, command line
	$(PYTEST) -m "not slow" $(QUICK)

check: $(VENV)/dev.installed ## lint, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

dist: $(VENV)/dev.installed ## build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --quiet
	@ls dist

wheels: $(VENV)/dev.installed ## ask the registry: does every Python on every system install from wheels alone?
	@for python in $(WHEEL_PYTHONS); do for system in $(WHEEL_SYSTEMS); do \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet --no-header --only-binary :all: --python-version $$python --python-platform $$system \
			pyproject.toml >/dev/null || exit 1; \
		echo "ok  Python $$python  $$system"; \
	done; done

bench: $(VENV)/dev.installed ## measure this machine (minutes)
	$(BIN)/musebridge bench engine

plugin: ## build the LV2 plug-in into build/musebridge.lv2 (wants a C compiler and lv2-dev)
	@command -v $(CC) >/dev/null || { echo "make plugin wants a C compiler: apt-get install gcc" >&2; exit 1; }
	@echo '#include <lv2/core/lv2.h>' | $(CC) -E - >/dev/null 2>&1 || { \
		echo "make plugin wants the headers of LV2: apt-get install lv2-dev" >&2; exit 1; }
	@mkdir -p $(PLUGIN)
	$(CC) -std=c11 -D_DEFAULT_SOURCE -O2 -Wall -Wextra -fPIC -shared -pthread $(PLUGIN_FLAGS) -o $(PLUGIN)/musebridge$(SUFFIX) \
		bridge/plugin/musebridge.c -lm
	@sed 's/@SUFFIX@/$(SUFFIX)/' bridge/plugin/manifest.ttl.in >$(PLUGIN)/manifest.ttl
	@cp bridge/plugin/musebridge.ttl $(PLUGIN)/
	@echo "Copy $(PLUGIN) to ~/.lv2"

plugin-asan: ## run the plug-in's tests with its memory watched
	@$(MAKE) --no-print-directory plugin PLUGIN=build/asan/musebridge.lv2 PLUGIN_FLAGS="-fsanitize=address,undefined -g"
	MUSEBRIDGE_PLUGIN=build/asan/musebridge.lv2/musebridge.so ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		$(BIN)/python -m pytest -q tests/bridge/ports/test_plugin.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/play.installed: $(SOURCES) | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/quick.installed: $(SOURCES) | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/play.installed

$(VENV)/dev.installed: $(SOURCES) | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/quick.installed $(VENV)/play.installed

.PHONY: help play test quick check dist wheels bench plugin plugin-asan clean
