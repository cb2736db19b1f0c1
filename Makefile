# make demo    set up, complete the bundled photo, say where to look
# make test    set up, lint, check types, run the tests
# make lint    set up, lint, check types
# make sums    after a change in src/ostec/data: note the files' checksums anew
#
# Set-up happens in .venv, once, and again only after pyproject.toml or constraints.txt changed.
# Another Python for it: make demo PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint sums

demo: $(VENV)/.installed
	$(BIN)/ostec demo --save_dir demo_output

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

sums:
	cd src/ostec/data && find . -type f ! -name SHA256SUMS | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "ostec needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version). Name another: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(INSTALL) --editable .
	@echo "Compiling the loops over pixels, once."
	@$(BIN)/python -c 'import ostec; \
		ostec.complete(ostec.demo_photo(), settings=ostec.Settings(texture_size=64, frontalize=True)).encode()'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
