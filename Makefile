# Three commands for a newcomer: `make demo`, `make serve`, `make test`.

VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: demo serve model model-multi test coverage lint audit docs notebooks lock clean

demo: $(VENV)/.installed
	$(PYTHON) examples/demo.py

serve: $(VENV)/.installed-serve
	$(PYTHON) -m moderation serve

# The model that the package ships, trained anew into runs/compact-en-bundle: make model DATA=train.parquet
# To go on after an interruption add TRAIN=--resume, to start over TRAIN=--overwrite.
model: $(VENV)/.installed
	test -f "$(DATA)" || { echo "make model DATA=FILE: name the table of the Jigsaw comments"; exit 2; }
	$(PYTHON) examples/counterparts.py runs/counterparts.csv
	$(PYTHON) -m moderation train --config configs/compact-en.toml --data-path "$(DATA)" $(TRAIN)
	$(PYTHON) -m moderation export runs/compact-en --to runs/compact-en-bundle --formats onnx-int8 --overwrite \
		--about configs/compact-en.md --licence apache-2.0

# A multilingual model, which the package does not include yet, into runs/compact-multi-bundle: make model-multi DATA=FOLDER,
# with jigsaw/train.parquet, jigsaw/multilingual_validation.csv.gz and the open sets in open/. TRAIN as above.
model-multi: $(VENV)/.installed
	test -f configs/compact-multi.md || { echo "configs/compact-multi.md is missing"; exit 2; }
	test -d "$(DATA)/open" || { echo "make model-multi DATA=FOLDER: name the folder with jigsaw/ and open/"; exit 2; }
	$(PYTHON) -m pip install --quiet wordfreq==3.1.1
	$(PYTHON) examples/counterparts.py runs/counterparts-multi.csv --languages de es fr it pt tr
	$(PYTHON) examples/open_sets.py "$(DATA)/open" --jigsaw "$(DATA)/jigsaw/train.parquet" \
		--multilingual "$(DATA)/jigsaw/multilingual_validation.csv.gz" --more runs/counterparts-multi.csv --to runs/multi
	test -f runs/multi/backbone/config.json || $(PYTHON) examples/cut_backbone.py multilingual-e5-small --layers 6 \
		--texts runs/multi/train.parquet runs/multi/further.parquet --to runs/multi/backbone
	$(PYTHON) -m moderation train --config configs/compact-multi.toml $(TRAIN)
	$(PYTHON) -m moderation export runs/compact-multi --to runs/compact-multi-bundle --formats onnx-int8 --overwrite \
		--about configs/compact-multi.md --licence mit

test: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -n 2 --dist worksteal

# How much of the package the quick tests run. What they start as processes of their own is not counted.
coverage: $(VENV)/.installed-dev
	$(PYTHON) -m pytest -n 2 --dist worksteal --cov --cov-report term:skip-covered

lint: $(VENV)/.installed-dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

# Known faults of the code's kind, and of the pinned packages; the second needs the network.
audit: .venv-audit/.installed
	.venv-audit/bin/bandit --quiet --configfile pyproject.toml --recursive moderation model_training.py examples benchmarks
	.venv-audit/bin/pip-audit --disable-pip --no-deps --requirement constraints.txt

# The site of the documentation, in build/site. Needs no network once it is installed.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# The tutorials' notebooks, run, with what they print.
notebooks: $(VENV)/.installed-dev
	$(PYTHON) docs/notebooks.py --write

# What the image installs, with the hash of every file.
lock: .venv-audit/.installed
	echo setuptools==84.2.1 | .venv-audit/bin/uv pip compile --generate-hashes --universal --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --constraint constraints.txt --extra onnx --extra serve --extra serve-postgres --extra serve-redis \
		--output-file requirements-image.txt pyproject.toml -

.venv-audit/.installed: requirements-audit.txt
	test -d .venv-audit || python3 -m venv .venv-audit
	.venv-audit/bin/python -m pip install -r requirements-audit.txt
	touch $@

.venv-docs/.installed: requirements-docs.txt
	test -d .venv-docs || python3 -m venv .venv-docs
	.venv-docs/bin/python -m pip install -r requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) .venv-audit .venv-docs build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Without torch, and only where nothing is installed yet.
$(VENV)/.installed-serve:
	test -x $(PYTHON) || python3 -m venv $(VENV)
	test -e $(VENV)/.installed || $(PYTHON) -m pip install --constraint constraints.txt --editable '.[onnx,serve,feedback]'
	touch $@

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PYTHON) -m pip install -r requirements-dev.txt
	touch $@
