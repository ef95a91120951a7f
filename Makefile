# Python 3.11+, make and a package index are all that a checkout needs.

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check coverage bench setup clean

BIN := .venv/bin
LOCKED := pyproject.toml uv.lock scripts/sync.sh
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 --dist=loadgroup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.examples ## Classify real PDF pages with a durable graph, kill it, watch it go on
	@$(BIN)/python -m examples.classify_docs.demo

test: check ## Everything that must hold before a change goes in
	$(PYTEST)

test-long: setup ## The long forms: more seeds, more crashes, more load
	HOLDFAST_TEST_LONG=1 $(PYTEST) --timeout=3600

check: setup ## Lint, format, types, import rules, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

coverage: setup ## Branch coverage of the short tests
	$(PYTEST) --cov --cov-report=term

bench: ## Compare with the peers and the bare database
	@bench/run.sh

setup: .venv/.dev ## Make or update .venv

clean: ## Remove environments, caches and products
	rm -rf .venv .uv .bench-venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.dev: $(LOCKED)
	scripts/sync.sh dev examples
	@touch .venv/.examples $@

.venv/.examples: $(LOCKED)
	scripts/sync.sh examples
	@touch $@
