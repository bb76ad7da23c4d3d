# Needs git, make and Python 3.11. PYTHON names the interpreter that the environment is made with.
PYTHON ?= python3
ENV := .venv
RUN := $(ENV)/bin/python
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.DEFAULT_GOAL := help
.PHONY: help env book html refresh records test lab clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(ENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python 3.11 is needed, this is {v[0]}.{v[1]}; try: make PYTHON=python3.11 ...")'
	@echo "Building the environment in $(ENV) (some minutes, once) ..."
	@$(PYTHON) -m venv $(ENV)
	@$(RUN) -m pip install --quiet --requirement requirements.lock
	@$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

env: $(ENV)/installed  ## build the environment, if lock or pyproject changed

book: env  ## execute every chapter at its default parameters and render the book
	@$(RUN) book/build.py book

html: env  ## render the book from the committed outputs (a minute)
	@$(RUN) book/build.py html

refresh: env  ## execute the chapters and write their outputs back for committing [only="06_student"]
	@$(RUN) book/build.py refresh $(only)

records: env  ## make the recorded runs whose record is missing (hours; needs the scans) [only="teacher_1cas"]
	@$(RUN) book/study.py --run $(only)

test: env  ## everything that CI runs
	@$(RUN) book/build.py test

lab: env  ## open the notebooks
	@$(ENV)/bin/jupyter lab notebooks

clean:  ## remove what was built, keep the environment
	@rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis
