PYTHON ?= python

.PHONY: setup install test test-fast test-oldest lint format types spell docs page bench

setup: install
	$(PYTHON) -m pip install -e ".[docs]"
	if [ -e .git ]; then $(PYTHON) -m pre_commit install; fi

install:
	$(PYTHON) -m pip install -r requirements-dev.txt

test:
	$(PYTHON) -m pytest -q

test-fast:
	$(PYTHON) -m pytest -q -m "not slow and not browser"

# The tests of transformers models with the oldest versions that pyproject.toml allows, which OLDEST
# holds apart from the environment.
OLDEST ?= .oldest
test-oldest:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(OLDEST) \
		transformers==5.0.0 tokenizers==0.22.0 huggingface-hub==1.3.0
	PYTHONPATH=$(OLDEST) $(PYTHON) -m pytest -q -m "not slow" tests/unit/backends/public

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:
	$(PYTHON) -m mypy

spell:
	$(PYTHON) -m codespell_lib

docs:
	$(PYTHON) -m sphinx -W -b html docs docs/_build

page:
	cd web && npm ci --no-audit --no-fund && npm run build && npx vitest run

bench:
	$(PYTHON) benchmarks/runtimes.py
	$(PYTHON) benchmarks/caption.py
