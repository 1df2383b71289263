# `make demo` and `make test` do all set-up themselves; a change of the pins installs again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test lint docs notebooks bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	rm -rf runs/demo
	$(BIN)/neurosim-ep compare digits --device li-ecram --device pcm --on-chip --seeds 3 \
		--times 0,1d --no-attribution --jobs 2 --out runs/demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

# Executes the notebooks and writes their outputs into them; `make test` executes them only.
notebooks: install
	$(BIN)/pytest --overwrite notebooks

# The tests build the site as well, into a folder of their own.
docs: install
	$(BIN)/mkdocs build --strict

# The paper's public code joins in where PAPER_CODE names a checkout of it; a GPU where there is one.
BENCH := OMP_NUM_THREADS=1 $(BIN)/python benchmarks
bench: install
	$(BENCH)/settling_iteration.py $(if $(PAPER_CODE),--paper-code $(PAPER_CODE))
	$(BENCH)/settling_residual.py $(if $(PAPER_CODE),--paper-code $(PAPER_CODE))
	$(BENCH)/training_step.py $(if $(PAPER_CODE),--paper-code $(PAPER_CODE))
	$(BENCH)/training_step.py --growth
	$(BENCH)/training_step.py --memory
	$(BENCH)/gradient_precision.py
	$(BENCH)/gradient_rounding.py
	$(BENCH)/overrelaxation.py
	$(BENCH)/compiled.py
	$(BENCH)/crossbar_settling.py
	$(BENCH)/crossbar_read.py
	$(BENCH)/wire_resistance.py
	$(BENCH)/spice_arrays.py
	$(BENCH)/on_chip_epoch.py
	$(BENCH)/on_chip_update.py
	$(BENCH)/gpu.py $$($(BIN)/python -c \
		'import torch; print("" if torch.cuda.is_available() else "--toy")') \
		$(if $(PAPER_CODE),--paper-code $(PAPER_CODE))

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
