# Two commands do all on a fresh machine: `make race` (set up, run the main job) and `make test` (set up, pass all tests).
# PIP_ARGS goes to pip: where torch's CPU build is in an index of its own, name it there.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready
FRAMES := $(VENV)-frameworks
FRAMES_BIN := $(subst $(VENV)/,$(FRAMES)/,$(BIN))

.PHONY: race test test-slow smoke prove test-by-python test-long test-wheel test-frameworks test-docs lesson docs tree walks lint types imports check clean

# The race of the whole catalogue, then the tutorial's own runs at the tutorial's settings.
race: $(READY)
	$(BIN)/steprule race
	$(BIN)/steprule race --trials 0

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not long and not slow"

# What takes seconds a test: whole races, workers that are killed, pages in a browser. CI always runs it.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m "slow and not long"

# The first proof of a change: tests that together touch every room, in 20 s on two cores (tests/smoke.txt).
smoke: $(READY)
	$(BIN)/python -m pytest -m "not long" @tests/smoke.txt

# Every long test; SAMPLE=0.02 SEED=3 runs a seeded share of them, as CI does.
SAMPLE ?= 1
SEED ?= 0
test-long: $(READY)
	$(BIN)/python -m pytest -n 2 -m long --long-sample $(SAMPLE) --long-seed $(SEED)

# The wheel, in clean environments, one per extra; CI always runs it. `make test-long` has the one with all extras too.
test-wheel: $(READY)
	$(BIN)/python -m pytest -m "long or not long" -k "not all" tests/test_wheel.py

# Prove that torch's records may be read on this torch and Python: the whole matrix of strange tensors beside torch's classes.
prove: $(READY)
	$(BIN)/python tests/prove.py

# The classes' tests with every look taken by Python, as where the records are not proved; CI always runs it.
test-by-python: $(READY)
	STEPRULE_SCAN=python $(BIN)/python -m pytest -n 2 -m "not long" tests/test_optim_*.py tests/test_composition.py \
		tests/test_sharded.py tests/test_contract_*.py tests/test_events.py tests/test_sequences.py tests/test_layout.py

# Inside Hugging Face's Trainer, Accelerate, Lightning, timm, torchtitan and Ray Train, in an environment of their own.
test-frameworks: $(FRAMES)/.ready
	$(FRAMES_BIN)/python -m pytest -m "long or not long" tests/frameworks

# The documentation and the lesson, every page and every cell; CI always runs it.
test-docs: $(READY)
	$(BIN)/python -m pytest -n 2 -m "long or not long" tests/test_site.py tests/test_lesson.py

# The lesson's notebooks, run anew.
lesson: $(READY)
	$(BIN)/python docs/lesson/build.py

# The documentation, in site/; it opens from the file system too. (Quiet, mkdocs would not count the warnings that fail it.)
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The tree in docs/architecture.md, printed from the import contracts and line 1 of each file.
tree: $(READY)
	$(BIN)/python docs/tree.py

# The walks in the same page, recorded as they are.
walks: $(READY)
	$(BIN)/python docs/walks.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

check: lint types imports test

clean:
	rm -rf $(VENV) $(FRAMES) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# torch first and alone: with it in place, nothing else can bring another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'steprule needs Python 3.11 or newer; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	$(BIN)/python -c "import pathlib; pathlib.Path('$(READY)').touch()"

# torchtitan comes alone: it wants an older hub client than transformers, and its builder of optimizers needs two packages only.
$(FRAMES)/.ready: pyproject.toml constraints.txt tests/frameworks/constraints.txt
	$(PYTHON) -m venv $(FRAMES)
	$(FRAMES_BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch
	$(FRAMES_BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -c tests/frameworks/constraints.txt -e . \
		pytest pandas transformers accelerate peft lightning timm "ray[train]" tyro spmd_types
	$(FRAMES_BIN)/python -m pip install -q $(PIP_ARGS) -c tests/frameworks/constraints.txt --no-deps torchtitan
	$(FRAMES_BIN)/python -c "import pathlib; pathlib.Path('$(FRAMES)/.ready').touch()"
