# Three commands for a newcomer: `make demo`, `make serve`, `make test`.

VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: demo serve test lint clean

demo: $(VENV)/.installed
	$(PYTHON) examples/demo.py

serve: runs/demo-bundle/moderation.json
	$(PYTHON) -m moderation serve --model runs/demo-bundle

test: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

runs/demo-bundle/moderation.json: runs/demo/report.html
	$(PYTHON) -m moderation export runs/demo --to runs/demo-bundle --formats onnx,onnx-int8 --overwrite

runs/demo/report.html: | $(VENV)/.installed
	$(PYTHON) examples/demo.py

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PYTHON) -m pip install -r requirements-dev.txt
	touch $@
