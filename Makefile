# Two commands do everything, on any machine with Python and make:
#   make demo    set up, run the real lm_eval on 12 prompts, write a report
#   make test    set up, run every test, on the oldest and the newest lm-eval that we support
# For work on the code: make check, make format, make bench.

PYTHON ?= python3
# The version that axolotl 0.19.0 was built for; `make TORCH=torch` takes the newest.
TORCH ?= torch==2.13.0
OLDEST := .venv/lm-eval-0.4.11
NEWEST := .venv/lm-eval-0.4.13
SOURCES := pyproject.toml $(shell find harness_tasks -type f -not -path '*/__pycache__/*')

.PHONY: demo test check format bench clean

demo: .venv/demo/.installed
	.venv/demo/bin/longwriter demo

test: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(NEWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(OLDEST)/.installed
	$(NEWEST)/bin/ruff format --check .
	$(NEWEST)/bin/ruff check .
	$(NEWEST)/bin/mypy
	$(MAKE) test

format: $(NEWEST)/.installed
	$(NEWEST)/bin/ruff format .
	$(NEWEST)/bin/ruff check --fix .

bench: $(NEWEST)/.installed
	$(NEWEST)/bin/python scripts/bench_judge.py

# The task files are copied into lm-eval's own folder, so a change to them installs again.
.venv/demo/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv/demo
	.venv/demo/bin/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(NEWEST)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check \
	  "$(TORCH)" "lm_eval[api,hf]==$(NEWEST:.venv/lm-eval-%=%)" --editable ".[dev]"
	touch $@

# The oldest lm-eval, with our tasks inside it, borrows all other packages from the newest one's
# environment: torch alone is a gigabyte.
$(OLDEST)/.installed: $(NEWEST)/.installed
	$(PYTHON) -m venv $(OLDEST)
	$(NEWEST)/bin/python -c 'import site; print(site.getsitepackages()[0])' \
	  > $$($(OLDEST)/bin/python -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --ignore-installed \
	  "lm_eval==$(OLDEST:.venv/lm-eval-%=%)" --editable .
	touch $@

clean:
	rm -rf .venv
