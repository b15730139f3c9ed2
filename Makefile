# Two commands do everything, on any machine with Python and make:
#   make demo    set up, run the real lm_eval on 12 prompts, write a report
#   make test    set up, run the tests on the newest lm-eval; and those of lm-eval and axolotl
#                beside axolotl, which has the oldest lm-eval that we support
# For work on the code: make check, make format, make bench.

PYTHON ?= python3
# The version that axolotl 0.19.0 was built for; `make TORCH=torch` takes the newest.
TORCH ?= torch==2.13.0
TRAIN := .venv/axolotl-0.19.0
NEWEST := .venv/lm-eval-0.4.13
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder
SOURCES := pyproject.toml $(shell find harness_tasks -type f -not -path '*/__pycache__/*')

# Else the hundreds of processes that tests start would compile the same packages anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format bench clean

demo: .venv/demo/.installed
	.venv/demo/bin/longwriter demo

# SLOW= runs the slow tests, too: backends, several processes, Ray.
SLOW := and not slow

test: $(NEWEST)/.installed
	$(NEWEST)/bin/python $(PYTEST) -m "not axolotl and not ray $(SLOW)"
	$(TRAIN)/bin/python $(PYTEST) -m "(axolotl or lm_eval or ray) $(SLOW)"

check: $(NEWEST)/.installed
	$(NEWEST)/bin/ruff format --check .
	$(NEWEST)/bin/ruff check .
	$(NEWEST)/bin/mypy
	$(MAKE) test SLOW=

format: $(NEWEST)/.installed
	$(NEWEST)/bin/ruff format .
	$(NEWEST)/bin/ruff check --fix .

bench: $(NEWEST)/.installed
	$(NEWEST)/bin/python scripts/bench_judge.py
	$(NEWEST)/bin/python scripts/bench_agentwrite.py
	$(NEWEST)/bin/python scripts/bench_select.py
	$(NEWEST)/bin/python scripts/bench_report.py
	$(NEWEST)/bin/python scripts/bench_submission.py
	$(TRAIN)/bin/python scripts/bench_packing.py

# The task files are copied into lm-eval's own folder, so a change to them installs again.
.venv/demo/.installed: $(SOURCES)
	$(PYTHON) -m venv .venv/demo
	.venv/demo/bin/pip install --quiet --disable-pip-version-check --editable .
	touch $@

# axolotl pins lm-eval 0.4.11.
$(TRAIN)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/pip install --quiet --disable-pip-version-check --no-compile "$(TORCH)"
	$(TRAIN)/bin/pip install --quiet --disable-pip-version-check --no-compile \
	  "$(TORCH)" --editable ".[dev,ray,train]"
	touch $@

# The newest lm-eval, with our tasks inside it, borrows all other packages from axolotl's
# environment: they are gigabytes.
$(NEWEST)/.installed: $(TRAIN)/.installed
	$(PYTHON) -m venv $(NEWEST)
	$(TRAIN)/bin/python -c 'import site; print(site.getsitepackages()[0])' \
	  > $$($(NEWEST)/bin/python -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --ignore-installed \
	  "lm_eval==$(NEWEST:.venv/lm-eval-%=%)" --editable .
	touch $@

clean:
	rm -rf .venv
