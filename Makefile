# Two commands do everything, on any machine with Python and make:
#   make demo    set up, run the real lm_eval on 12 prompts, write a report
#   make test    set up, run every test, on the oldest and the newest lm-eval that we support
# For work on the code: make check, make format, make bench.

PYTHON ?= python3
# The version that axolotl 0.19.0 was built for; `make TORCH=torch` takes the newest.
TORCH ?= torch==2.13.0
LM_EVAL := 0.4.11 0.4.13
NEWEST := .venv/lm-eval-0.4.13
INSTALLED := $(LM_EVAL:%=.venv/lm-eval-%/.installed)
SOURCES := pyproject.toml $(shell find harness_tasks -type f -not -path '*/__pycache__/*')

.PHONY: demo test check format bench clean

demo: .venv/demo/.installed
	.venv/demo/bin/longwriter demo

test: $(INSTALLED)
	set -e; for version in $(LM_EVAL); do \
	  echo "== lm-eval $$version"; \
	  .venv/lm-eval-$$version/bin/python -m pytest -n 2 --dist loadfile; \
	done

check: $(INSTALLED)
	$(NEWEST)/bin/ruff format --check .
	$(NEWEST)/bin/ruff check .
	$(NEWEST)/bin/mypy
	$(MAKE) test

format: $(INSTALLED)
	$(NEWEST)/bin/ruff format .
	$(NEWEST)/bin/ruff check --fix .

bench: $(INSTALLED)
	$(NEWEST)/bin/python scripts/bench_judge.py

# The task files are copied into lm-eval's own folder, so a change to them installs again.
.venv/demo/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv/demo
	.venv/demo/bin/pip install --quiet --disable-pip-version-check .
	touch $@

.venv/lm-eval-%/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv/lm-eval-$*
	.venv/lm-eval-$*/bin/pip install --quiet --disable-pip-version-check "$(TORCH)"
	.venv/lm-eval-$*/bin/pip install --quiet --disable-pip-version-check \
	  "$(TORCH)" "lm_eval[api,hf]==$*" --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv
