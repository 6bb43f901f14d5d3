# One local environment in .venv, made from hash-pinned requirement files. `make help` lists every target.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(wildcard libs/*) $(wildcard svc_*)
EDITABLES := $(foreach package,$(PACKAGES),-e ./$(package))
# pip is the reference; uv, itself installed by hash, only makes the same installation several times faster.
# Most tests wait for servers and processes of their own. A file stays on one worker: it shares its fixtures. The long
# ones, end to end, come first.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
INSTALLER = $(BIN)/python libs/cli/install.py

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test check bench docs format lock clean clean-data soak

help:  ## list every target
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.run  ## install what `make run` needs
install-dev: $(VENV)/.dev  ## install what tests, checks and benchmarks need too

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "expected $(PYTHON) on the PATH; set PYTHON=… to a 3.11 or 3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt $(addsuffix /pyproject.toml,$(PACKAGES)) | $(BIN)/python
	@test -e $(VENV)/.dev || $(INSTALLER) requirements.txt $(PACKAGES)
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(addsuffix /pyproject.toml,$(PACKAGES)) | $(BIN)/python
	@$(INSTALLER) requirements-dev.txt $(PACKAGES)
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## start everything: servers, services, a first model, the replay, the paper desk
	@$(BIN)/qraft run $(ARGS)

test: $(VENV)/.dev  ## install the test needs and pass the tests
	@sh tests/kit/install_programs.sh
	$(BIN)/python -m pytest $(or $(ARGS),$(IN_PARALLEL))

check: $(VENV)/.dev  ## lint, format, types, import contracts, schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint -s compose.yaml k8s

bench: $(VENV)/.dev  ## measure every figure as a ratio in one run and print the method
	$(BIN)/python -m tests.bench

soak: $(VENV)/.dev  ## kill services and the bus at random for SOAK_MINUTES (default 30)
	$(BIN)/python -m pytest tests/e2e -m soak --soak-minutes $(or $(SOAK_MINUTES),30) -x

docs: $(VENV)/.dev  ## write the schemas and the AsyncAPI document from the running code
	$(BIN)/python -m qraft_contracts.export
	$(BIN)/qraft docs asyncapi -o asyncapi.json

format: $(VENV)/.dev  ## format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev  ## resolve anew and export the hash-pinned requirement files
	$(BIN)/uv lock
	$(BIN)/uv export -q --all-packages --all-extras --no-extra automatic --no-emit-workspace --no-default-groups --group build --no-annotate --no-header -o requirements.txt
	$(BIN)/uv export -q --all-packages --all-extras --no-emit-workspace --group build --group dev --no-annotate --no-header -o requirements-dev.txt

clean:  ## remove the environment and caches (data stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-data:  ## remove QRAFT_HOME: bars, models, journal (asks first)
	@printf 'remove %s with all bars, models and the journal? [y/N] ' "$${QRAFT_HOME:-.qraft}"; read answer; [ "$$answer" = y ] && rm -rf "$${QRAFT_HOME:-.qraft}"
