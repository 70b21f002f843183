# Two commands for a newcomer: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint requirements.lock

.PHONY: demo test gate slow check format docs bench lock clean system

# Two stamps: what the demo runs; on top of it, what tests and checks need.
.venv/installed: pyproject.toml requirements.lock
	@[ "$$(uname -s)" = Linux ] || { echo "aarlab's campaigns need Linux: use a Linux container, on Windows WSL 2 (docs/quickstart.md)"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"aarlab needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make demo PYTHON=python3.11")'
	@echo "Installing what the demo runs into .venv, once (PyTorch is most of it; sizes and a CPU build: docs/quickstart.md)."
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[demo]'
	@# pip compiles what it copies, not a source tree, and sandboxes cannot write beside it.
	$(BIN)/python -m compileall -q src
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests and checks need on top, once."
	$(PIP) --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/aarlab demo

# Models in tests are small: threads that wait for one another on busy cores took most of their time.
test gate: export OMP_NUM_THREADS = 1
test gate: export OPENBLAS_NUM_THREADS = 1
# Four test processes import all tests: from the second run on it takes them two thirds of the time.
test gate: export PYTHONDONTWRITEBYTECODE =

# Files of tests side by side: most of them wait for processes, not for a core. Taken as they come,
# the longest first (tests/conftest.py): by default files with few tests are the last, and those of
# campaigns, long ones, are among them.
BESIDE := -n 4 --dist loadfile --no-loadscope-reorder

test: .venv/installed-dev
	$(BIN)/python -m pytest $(BESIDE)

# The longest tests of walls and promises. They gate in CI, after the default suite. Only files that
# have one are loaded: each test process would import all the others first.
gate: .venv/installed-dev
	$(BIN)/python -m pytest $(BESIDE) -m 'gate and not slow' $$(grep -rl 'mark\.gate' tests --include='*.py')

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

check: .venv/installed-dev
	$(BIN)/ruff format --check src tests benchmarks examples/api examples/extensions docs/site
	$(BIN)/ruff check src tests benchmarks examples/api examples/extensions docs/site
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff format src tests benchmarks examples/api examples/extensions docs/site
	$(BIN)/ruff check --fix src tests benchmarks examples/api examples/extensions docs/site

# The site, in build/site. It needs only what reads Markdown and sources: a small environment of its own.
.venv-docs/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --disable-pip-version-check --constraint requirements.lock --editable '.[docs]'
	touch $@

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "documentation: build/site/index.html"

bench: .venv/installed-dev
	$(BIN)/python benchmarks/results.py

# For the tests on PostgreSQL, on Slurm, in a browser and on a stand-in of a card (skipped without); Debian and Ubuntu, as root.
system:
	apt-get -qq -o Acquire::Retries=3 update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends chromium postgresql slurmctld slurmd slurm-client munge g++

# Newest versions that satisfy pyproject.toml, as constraints (torch's local build tag is dropped).
# Take the oldest Python there is: soupsieve 3 and 4 need 3.11.5, so a lock made on 3.11.7 fails on 3.11.2.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet -e '.[dev,docs]'
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-docs build dist runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
