# Python 3.11 to 3.13: the newest of those that are here, or as given by PYTHON=...
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: score test check clean

score: .venv/.score
	$(BIN)/emobeam score --input samples --output scores
	$(BIN)/emobeam show scores

# As many workers as there are usable CPUs. A file's tests run in one worker, since they share what its fixtures make.
# With COVERAGE=1 the tests must reach a part of the package: branches too, and in the processes that they start.
test: .venv/.test
	$(BIN)/python -m pytest -q -n auto --dist loadfile $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=91)

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist *.egg-info scores .coverage .coverage.*

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "emobeam needs Python 3.11, 3.12 or 3.13 on the PATH (or: make PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.score: setup.py pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

.venv/.test: setup.py pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[test]'
	@touch $@ .venv/.score
