# Each target sets up what it needs: a virtual environment with the pinned versions.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
SETUP = setup.cfg pyproject.toml $(CONSTRAINTS)

.PHONY: help demo test test-oldest install-oldest lint docs docs-check bench accuracy clean

help:
	@echo "make demo   choose a recommender for MovieLens and see what it recommends"
	@echo "make test   run all tests"
	@echo "make test-oldest  run the common tests on the oldest supported versions"
	@echo "make lint   check style, types and spelling"
	@echo "make docs   build the documentation in docs/_build/html"
	@echo "make docs-check  open every page in a browser, at the widths of a desktop and a phone"
	@echo "make accuracy  measure the accuracy on the data in SKLREC_DATA (hours), and write the tables"
	@echo "make bench  measure speed and memory beside other libraries (an hour)"
	@echo "make clean  remove the virtual environment and everything built"

demo: $(VENV)/.demo
	$(BIN)/python examples/plot_quickstart.py

# One thread: the matrices of the tests are small, and threads that wait for each other cost more
# than they save, above all on a busy machine. Instead there is a process for each core.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

# The checks of scikit-learn, and that training works.
test-oldest: install-oldest
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest --numprocesses=auto --dist=worksteal tests/test_common.py \
	    -k "scikit_learn and not ReadingContent or beats_a_random_ranking"

install-oldest:
	$(MAKE) $(VENV)-oldest/.test VENV=$(VENV)-oldest CONSTRAINTS=constraints-min.txt EXTRAS=test,neural

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py

docs-check: docs
	$(INSTALL) playwright
	$(BIN)/python docs/check_site.py --screenshots docs/_build/screenshots

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/speed_scorer.py
	$(BIN)/python benchmarks/speed_ranking.py
	$(BIN)/python benchmarks/speed_ease.py
	$(BIN)/python benchmarks/neural.py
	$(BIN)/python benchmarks/speed_neural.py
	$(BIN)/python benchmarks/speed_neighbors.py
	$(BIN)/python benchmarks/speed_service.py
	$(BIN)/python benchmarks/memory_elsa.py
	$(BIN)/python benchmarks/memory_evaluate.py

accuracy: $(VENV)/.bench
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/accuracy.py --ablations
	$(BIN)/python benchmarks/report.py --html build/accuracy.html

clean:
	rm -rf $(VENV) $(VENV)-oldest docs/_build docs/auto_examples docs/generated build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "sklrec needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: EXTRAS = test
$(VENV)/.test: EXTRAS = test,neural,bench,distributed
$(VENV)/.docs: EXTRAS = docs,neural,distributed
$(VENV)/.bench: EXTRAS = bench,neural
$(VENV)/.demo $(VENV)/.test $(VENV)/.docs $(VENV)/.bench: $(BIN)/python $(SETUP)
	$(INSTALL) -e ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.lint: $(VENV)/.demo
	$(INSTALL) ruff mypy codespell
	@touch $@
