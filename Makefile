# One word per job; the work is done by tools/ and by the programs in .venv.
# Options: make demo SECONDS=15 · make test ARGS='-k outbox' · make bench ARGS=--json · make features-prove ALL=1

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help setup models demo test lint format bench docs clean features features-prove lock test-brokers nightly

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --basetemp=build/pytest
# bash has a variable of this name too; only what was said to make counts.
DEMO_SECONDS := $(if $(filter command,$(origin SECONDS)),--seconds $(SECONDS))

help:
	@echo 'make setup           .venv with the chappe command, from hash-locked lists'
	@echo 'make demo            gestures, lamps and a broker, nothing to plug in   (SECONDS=15 ends it by itself)'
	@echo 'make test            every test but the slow ones; installs what it needs   (ARGS=... goes to pytest)'
	@echo 'make lint, format    what CI demands of the source; put it into that form'
	@echo 'make bench           the figures of the README, as ratios of one run   (WHAT="start streams" ARGS=--json)'
	@echo 'make docs            write the generated pages again and check every link'
	@echo 'make models          pull the hand models, 42 MB, and check them'
	@echo 'make features        how many capabilities have passing tests, per area'
	@echo 'make features-prove  break ten of them and see their tests fail   (ALL=1: all, ID=VIS-05: that one)'
	@echo 'make test-brokers    install NATS and RabbitMQ, then try every broker (docs/brokers.md)'
	@echo 'make nightly         everything above that tests, in full size'
	@echo 'make lock            for maintainers: write the locks anew and check them   (UPGRADE=1: newest versions)'
	@echo 'make clean           remove what was built; .venv and the models stay'

setup:
	@tools/setup.sh venv

models: setup
	@tools/models.sh

demo: models
	@$(BIN)/chappe demo $(DEMO_SECONDS) $(ARGS)

test: models
	@tools/setup.sh mosquitto
	@tools/setup.sh faults
	@tools/setup.sh numpy1
	@$(PYTEST) --features-report=build/features.json $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict tools
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

WHAT ?= start streams vision
bench: models
	@for what in $(WHAT); do $(BIN)/chappe bench $$what $(ARGS) || exit; done

docs: setup
	@$(BIN)/python tools/docs.py

features: setup
	@$(BIN)/python tools/features.py show

features-prove: models
	@$(BIN)/python tools/features.py prove $(ID) $(if $(ALL),--all)

lock: setup
	@tools/lock.sh $(if $(UPGRADE),--upgrade)

test-brokers: export CHAPPE_BROKERS = all
test-brokers: models
	@tools/setup.sh brokers
	@$(PYTEST) tests/wire/test_brokers*.py $(ARGS)

nightly: export NIGHTLY = 1
nightly:
	@$(MAKE) lint
	@$(MAKE) features-prove ALL=1
	@$(MAKE) test-brokers
	@$(MAKE) test

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find daemon tests tools -name __pycache__ -prune -exec rm -rf {} +
