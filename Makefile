# Two commands are enough on a new machine: make demo, make test. PYTHON may name another Python ≥ 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Modules are compiled when they are first imported: compiling all of them takes longer than the installation.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# On Linux, PyPI's PyTorch brings several GB of CUDA libraries. Without an NVIDIA GPU, the CPU build is installed first.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
CPU_TORCH := $(shell [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null && grep -m1 '^torch==' constraints.txt)

.PHONY: setup demo test test-all test-long messages torture check format docs bench gpu-check clean help

help:
	@echo "make demo       set up and train on the embedded digits (half a minute after the installation)"
	@echo "make test       set up and run the fast tests"
	@echo "make test-all   run all tests of CI, including slow ones and those that drive a browser"
	@echo "make test-long  run the longest tests: kills, campaigns, large inputs"
	@echo "make torture    kill, starve and fuzz the commands for ten minutes (MINUTES, SEED: docs/explanation/reliability.md)"
	@echo "make check      format, lint, types, import contract, docs, prose"
	@echo "make docs       write the generated parts of the docs, and the site to build/docs"
	@echo "make messages   record the wording of the messages that tests check"
	@echo "make bench      measure the speed next to other code (an hour; DATA, FACES, PYTHAE: docs/explanation/performance.md)"
	@echo "make gpu-check  verify training on this machine's GPU and measure its speed (DATA, FACES, PYTHAE)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("vaelab needs Python 3.11 or newer; make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(if $(CPU_TORCH),$(PIP) --retries 1 --timeout 15 --no-deps --index-url $(TORCH_INDEX) '$(CPU_TORCH)' || echo "no CPU build of PyTorch at $(TORCH_INDEX): pip installs the default build")
	$(PIP) --editable '.[dev]' --constraint constraints.txt
	@touch $(READY)

demo: $(READY)
	@$(BIN)/vaelab train digits
	@echo
	@echo "Open the report runs/digits/report.html in a browser. To explore the latent space:"
	@echo "  $(BIN)/vaelab explore runs/digits"
	@echo "Next: $(BIN)/vaelab train mnist, $(BIN)/vaelab --help"
test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not browser and not long"

test-all: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# Kills, campaigns and large inputs, for which CI has no time. Run it before a release.
test-long: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

# Records the wording of every message that a test checks. Read the diff before you commit it.
messages: $(READY)
	$(BIN)/pytest --update-messages

# Exits with 1 if a guarantee was broken, and prints the command that repeats each failure.
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
	$(BIN)/sphinx-build -q -W --keep-going -b html -c docs/site docs build/docs
	@echo "Open build/docs/README.html in a browser. The outputs of notebooks are written by docs/notebooks.py."

# DATA: folder with MNIST (default: where vaelab train finds it). FACES: CelebA, or faces drawn in its layout. PYTHAE: a
# Python with Pythae installed (default: leave Pythae out).
FACES ?= build/faces
bench: $(READY)
	test -e $(FACES) || $(BIN)/python benchmarks/make_faces.py $(FACES) --count 20000
	$(BIN)/python benchmarks/speed.py $(if $(DATA),--data $(DATA)) --faces $(FACES) $(if $(PYTHAE),--pythae $(PYTHAE)) --json build/speed.json --figure build/speed.png
	$(BIN)/python benchmarks/growth.py --json build/growth.json --figure build/growth.png
	$(BIN)/python benchmarks/member_costs.py --json build/members.json

# Exits with 1 if a check failed; measures the speed even then.
gpu-check: $(READY)
	mkdir -p build
	test -e $(FACES) || $(BIN)/python benchmarks/make_faces.py $(FACES) --count 20000
	$(BIN)/python benchmarks/gpu_check.py --json build/gpu-check.json; checked=$$?; \
	$(BIN)/python benchmarks/speed.py --device cuda $(if $(DATA),--data $(DATA)) --faces $(FACES) $(if $(PYTHAE),--pythae $(PYTHAE)) --json build/gpu-speed.json; exit $$checked

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
