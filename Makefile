# Two commands: `make demo` shows the main job on this machine, `make test` passes the whole suite.
SHELL := /bin/sh
export VMROLE_CACHE := $(CURDIR)/.cache
PYTEST := .venv/bin/pytest

.PHONY: setup setup-tests demo test check soak bench lock clean help

help:
	@echo "make demo   a lab, an image, two instances behind one address (needs root; a few minutes)"
	@echo "make test   the whole test suite, real guests included"
	@echo "make check  the fast part: ruff, mypy, import-linter, unit and golden tests"
	@echo "make soak   the long campaigns: one death at each single point, 300 random ones, 500 reimages"
	@echo "make bench  measure, and print the table"
	@echo "make clean  remove everything that these made on the machine"

setup:
	@scripts/setup

setup-tests:
	@scripts/setup tests

demo: setup
	@scripts/demo

check: setup-tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PYTEST) -q -n auto tests/unit tests/golden

# Guests wait for most of their time, so two labs run side by side; what must be alone on the machine comes last.
test: check
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" tests/contract tests/e2e
	$(PYTEST) -m alone tests/contract tests/e2e

soak: setup-tests
	$(PYTEST) -s --timeout 7200 tests/soak
	VMROLE_KILLS=300 VMROLE_CUTS=both $(PYTEST) -s --timeout 7200 tests/e2e/test_kill.py tests/e2e/test_cuts.py

bench: setup-tests
	.venv/bin/python -m tests.bench

lock:
	.venv/bin/python -m piptools compile -q --upgrade --extra dev --generate-hashes --allow-unsafe --strip-extras \
	    --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
	    -o requirements.txt pyproject.toml requirements.in

clean:
	@scripts/clean
