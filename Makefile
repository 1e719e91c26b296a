# Two commands do everything on a fresh machine: make demo, make test. PYTHON may name another Python ≥ 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-all messages torture check format docs bench clean help

help:
	@echo "make demo    set up and train the embedded digits, say how to explore them (half a minute after the install)"
	@echo "make test    set up and run the fast tests"
	@echo "make test-all  run every test, the slow and the browser's too"
	@echo "make torture kill, starve and fuzz it for ten minutes (MINUTES, SEED: see docs/reliability.md)"
	@echo "make check   format, lint, types, import contract, docs, prose"
	@echo "make docs    write docs/commands.md from --help"
	@echo "make bench   measure the speed beside rivals (an hour alone; DATA, FACES, PYTHAE: see docs/performance.md)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vaelab needs Python 3.11 or newer; make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $(READY)

demo: $(READY)
	@$(BIN)/vaelab train digits
	@echo
	@echo "The report is runs/digits/report.html; open it in a browser. To put a hand into the latent space:"
	@echo "  $(BIN)/vaelab explore runs/digits"
	@echo "More: $(BIN)/vaelab train mnist, $(BIN)/vaelab --help"

test: $(READY)
	$(BIN)/pytest -n 2 -m "not slow and not browser"

test-all: $(READY)
	$(BIN)/pytest -n 2

# Records the wording of every message that a test checks; read the diff before you commit it.
messages: $(READY)
	$(BIN)/pytest --update-messages

# Exits 1 if a promise was broken; prints the command that repeats each failure.
MINUTES ?= 10
SEED ?= 0
torture: $(READY)
	$(BIN)/python -m tests.torture --minutes $(MINUTES) --seed $(SEED)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/check.py
	$(BIN)/python docs/prose.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)
	$(BIN)/python docs/check.py --write

# DATA: where MNIST lies (default: where vaelab train finds it). FACES: CelebA, or faces drawn in its layout. PYTHAE: a
# Python that has Pythae; without one it is left out.
FACES ?= build/faces
bench: $(READY)
	test -e $(FACES) || $(BIN)/python benchmarks/make_faces.py $(FACES) --count 20000
	$(BIN)/python benchmarks/speed.py $(if $(DATA),--data $(DATA)) --faces $(FACES) $(if $(PYTHAE),--pythae $(PYTHAE)) --json build/speed.json --figure build/speed.png
	$(BIN)/python benchmarks/growth.py --json build/growth.json --figure build/growth.png

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
