# Every verb sets up its own .venv from pinned constraints; nothing is downloaded after the first run.
# The Python of the pins, or any newer one.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV = $(or $(PYTHON),$(error Python 3.11 or newer is needed; name it: make PYTHON=...)) -m venv
BIN := .venv/bin
REAL := h5py httpcore2 httpx2 huggingface-hub loguru mambapy ncps nir nirtorch norse regex safetensors snntorch spikingjelly timm tokenizers torchdiffeq transformers truststore

.PHONY: help figures test coverage newest theory prove formal notebooks docs cuda dist explorer regen clean
.DEFAULT_GOAL := help

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# The oldest torch that pyproject.toml allows: where there is a GPU, a build that can use it; elsewhere the small build, if
# pip is set up to find one. And in an environment of its own the newest torch there is.
OLDEST := torch==2.13.0
EXCEPT := ,!=
LARGE := $(OLDEST)$(EXCEPT)$(lastword $(subst ==, ,$(OLDEST)))+cpu
GPU := $(shell nvidia-smi -L 2>/dev/null)
.venv/.ready: TORCH := '$(if $(GPU),$(LARGE),$(OLDEST)+cpu)'
.venv/.ready: OTHERWISE := $(OLDEST)
.venv-newest/.ready: TORCH := torch
.venv-newest/.ready: OTHERWISE := torch
.venv/.ready .venv-newest/.ready: pyproject.toml constraints.txt
	$(VENV) $(@D)
	grep -v '^torch=' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --disable-pip-version-check -q -c $(@D)/constraints.txt $(TORCH) 2>/dev/null || $(@D)/bin/pip install --disable-pip-version-check -q -c $(@D)/constraints.txt $(OTHERWISE)
	$(@D)/bin/pip install --disable-pip-version-check -q -c $(@D)/constraints.txt hatchling editables
	$(@D)/bin/pip install --disable-pip-version-check -q -c $(@D)/constraints.txt --no-build-isolation -e '.[runtime,proofs,figs,notebooks,docs,dev]'
	$(@D)/bin/pip install --disable-pip-version-check -q -c $(@D)/constraints.txt --no-deps $(REAL)
	touch $@

figures: .venv/.ready  ## regenerate every figure from tables, streams and committed measurements
	$(BIN)/python -m paper_figs.make

test: .venv/.ready  ## lint, types, import contracts, the whole suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 $(COVER)
	$(MAKE) regen
	git diff --exit-code -- theory/tables.lock paper_figs/gallery paper_figs/RESULTS.md CLAIMS.md docs/reference/peers.md

coverage: .venv/.ready  ## make test, with the floors of branch coverage: theory and proofs 95 %, runtime 90 %
	$(MAKE) test COVER='--cov --cov-report='
	$(BIN)/coverage report --include 'theory/*,proofs_check/*' --skip-covered --fail-under 95
	$(BIN)/coverage report --include 'impl/*' --skip-covered --fail-under 90

newest: .venv-newest/.ready  ## the suite on the newest release of torch
	.venv-newest/bin/python -m pytest -n 2 --deselect 'tests/test_packaging.py::test_every_requirement_is_installed_at_its_pin[torch>=2.13]'

.venv-theory/.ready: pyproject.toml constraints.txt
	$(VENV) $(@D)
	.venv-theory/bin/pip install --disable-pip-version-check -q -c constraints.txt hatchling editables
	.venv-theory/bin/pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[proofs,dev]'
	touch $@

theory: .venv-theory/.ready  ## the tests of theory and proofs, in an environment without torch
	.venv-theory/bin/python -m pytest -n 2

prove: .venv/.ready  ## one verdict a claim, on the ranges that CLAIMS.md states
	$(BIN)/python -m membptt_proofs

formal: .venv/.ready  ## let Coq check the theorems of proofs_check/formal (needs coq: apt-get install coq)
	$(BIN)/python -m membptt_proofs.formal

notebooks: .venv/.ready  ## execute every notebook afresh from its text
	$(BIN)/python notebooks/execute.py

docs: .venv/.ready  ## build the documentation site: docs/out/site/index.html
	$(BIN)/python docs/make_site.py

cuda: .venv/.ready  ## where a GPU is: all that needs one, in at most eight minutes
	$(BIN)/python -m bench.cuda

dist: .venv/.ready  ## build sdist and wheel into dist/, and check both
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	MEMBPTT_DIST=dist $(BIN)/python -m pytest tests/test_packaging.py

explorer: .venv/.ready  ## build the explorer, one page to open in a browser: theory/explorer/out/index.html
	$(BIN)/python theory/explorer/build.py

regen: .venv/.ready  ## rewrite what is generated and committed, but for the notebooks
	$(BIN)/python -m membptt_theory.lock
	$(BIN)/python -m membptt_proofs.ledger
	$(BIN)/python -m paper_figs.results
	$(BIN)/python -m tests.peers

clean:  ## remove the environment and everything generated
	rm -rf .venv .venv-newest .venv-peers .venv-theory paper_figs/out theory/explorer/out docs/out dist proofs_check/formal/out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
