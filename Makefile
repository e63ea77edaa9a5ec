# `make demo`: the demo search. `make test`: everything that must hold. Both create .venv once and install nothing the second time.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-cluster docs clean

demo: .venv/installed
	$(BIN)/python -m search.run

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# `ray up` on three machines made of namespaces. Only root may make them.
test-cluster: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev,cluster]'
	$(BIN)/python -m pytest -m hosts tests/cluster/hosts

# The pages of docs/ as a site in build/site. A dead link is an error.
docs: .venv/installed
	$(BIN)/python -m search.config > docs/configuration.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
