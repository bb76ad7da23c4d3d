# Needs git, make and Python 3.11, 3.12 or 3.13. The environment is made with the newest of them that works, or with the
# one that PYTHON names: make PYTHON=python3.12 ...
PYTHONS := python3.13 python3.12 python3.11
ENV := .venv
RUN := $(ENV)/bin/python
OUTSIDE := $(PATH)
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)
export JUPYTER_PLATFORM_DIRS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# Both print the version. A name on the PATH may still not run (pyenv) or be unable to make an environment (Debian
# without its venv package), so the second one tries what that takes.
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
ABLE := -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null

.DEFAULT_GOAL := help
.PHONY: help check-python env book html refresh records test test-quick test-long lab clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Without PYTHON, an environment that is there is used as it is. With it, no other version is used in silence.
check-python:
ifneq ($(PYTHON),)
	@has=$$($(RUN) $(VERSION)); export PATH='$(OUTSIDE)'; \
	asked=$$($(PYTHON) $(ABLE)) || { \
	  echo "PYTHON=$(PYTHON) does not run, or lacks the modules venv and ensurepip (on Debian and Ubuntu they are in the package python3-venv)."; exit 1; }; \
	case $$asked in 3.11|3.12|3.13) ;; *) \
	  echo "Python 3.11, 3.12 or 3.13 is needed, this is $$asked; try: make PYTHON=python3.12 ..."; exit 1;; esac; \
	case $$has in ""|$$asked) ;; *) \
	  echo "The environment in $(ENV) has Python $$has, and PYTHON=$(PYTHON) is $$asked. Remove $(ENV) to build it again, or leave PYTHON out to keep it."; exit 1;; esac
endif

# An environment that is there is kept: PyTorch's CPU build may have been installed into it first.
$(ENV)/installed: requirements.lock pyproject.toml | check-python
	@$(RUN) $(VERSION) >/dev/null || { \
	  export PATH='$(OUTSIDE)'; found=; \
	  for python in $(or $(PYTHON),$(PYTHONS)); do if $$python $(ABLE) >/dev/null; then found=$$python; break; fi; done; \
	  [ -n "$$found" ] || { echo "No Python 3.11, 3.12 or 3.13 that can make an environment was found (tried: $(PYTHONS)). Install one, or name it: make PYTHON=FILE ..."; exit 1; }; \
	  echo "Making the environment in $(ENV) with $$found ..."; \
	  $$found -m venv --clear $(ENV); }
	@case $$($(RUN) $(VERSION)) in 3.11|3.12|3.13) ;; *) \
	  echo "Python 3.11, 3.12 or 3.13 is needed, this is $$($(RUN) $(VERSION)) in $(ENV). Remove $(ENV), and run make again."; exit 1;; esac
	@echo "Installing what requirements.lock lists into $(ENV) (some minutes the first time) ..."
	@$(RUN) -m pip install --quiet --requirement requirements.lock
	@$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

env: $(ENV)/installed  ## build the environment, if lock or pyproject changed

book: env  ## execute every chapter at its default parameters and render the book
	@$(RUN) book/tools/build.py book

html: env  ## render the book from the committed outputs (a minute)
	@$(RUN) book/tools/build.py html

refresh: env  ## execute the chapters and write their outputs back for committing [only="06_student"]
	@$(RUN) book/tools/build.py refresh $(only)

records: env  ## make the recorded runs whose record is missing (hours; needs the scans) [only="teacher_1cas"]
	@$(RUN) -m study --run $(only)

test: env  ## everything that CI runs
	@$(RUN) book/tools/build.py test

test-quick: env  ## the tests of the code that take less than five seconds each
	@$(ENV)/bin/pytest -m "not slow"

test-long: env  ## damaged files by the thousand, kills, soaks: hours; prints how many of each
	@$(ENV)/bin/pytest -m long

lab: env  ## open the notebooks
	@$(ENV)/bin/jupyter lab notebooks

clean:  ## remove what was built, keep the environment
	@rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
