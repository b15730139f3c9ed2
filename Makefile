# make demo    set up, run the real lm_eval on 12 prompts, write an HTML report
# make test    set up, run the tests on the newest supported lm-eval, and those of lm-eval and
#              axolotl beside axolotl, which pins the oldest supported lm-eval
# make check   format, lint, types, docs, and every test, the slow ones too
# make format, make docs, make bench, make clean

PYTHON ?= python3
# The version that axolotl 0.19.0 was built for; `make TORCH=torch` takes the newest.
TORCH ?= torch==2.13.0
TRAIN := .venv/axolotl-0.19.0
NEWEST := .venv/lm-eval-0.4.13
PIP_INSTALL := pip install --quiet --disable-pip-version-check
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# An editable install copies these files, so a change to them means installing again.
INSTALLED := pyproject.toml harness_tasks/longwriter_tasks.pth

# The tests start hundreds of processes, which would otherwise compile the same packages each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow check format docs bench clean

demo: .venv/demo/.installed
	.venv/demo/bin/longwriter demo

# Three processes without axolotl: on two cores, those tests often wait for servers and commands.
test: $(NEWEST)/.installed
	$(NEWEST)/bin/python $(PYTEST) -n 3 -m "not axolotl and not ray and not slow"
	$(TRAIN)/bin/python $(PYTEST) -m "(axolotl or lm_eval or ray) and not slow"

# Several ranks, Ray, model backends, installations, the whole pipeline.
test-slow: $(NEWEST)/.installed
	$(NEWEST)/bin/python $(PYTEST) -m "slow and not axolotl and not ray"
	$(TRAIN)/bin/python $(PYTEST) -m "slow and (axolotl or lm_eval or ray)"

check: $(NEWEST)/.installed
	$(TRAIN)/bin/ruff format --check .
	$(TRAIN)/bin/ruff check .
	$(TRAIN)/bin/mypy
	$(MAKE) test test-slow docs

format: $(NEWEST)/.installed
	$(TRAIN)/bin/ruff format .
	$(TRAIN)/bin/ruff check --fix .

docs: .venv/docs/.installed
	.venv/docs/bin/mkdocs build

bench: $(NEWEST)/.installed
	$(NEWEST)/bin/python scripts/bench_judge.py
	$(NEWEST)/bin/python scripts/bench_agentwrite.py
	$(NEWEST)/bin/python scripts/bench_long_texts.py
	$(NEWEST)/bin/python scripts/bench_select.py
	$(NEWEST)/bin/python scripts/bench_report.py
	$(NEWEST)/bin/python scripts/bench_submission.py
	$(NEWEST)/bin/python scripts/bench_text.py
	$(NEWEST)/bin/python scripts/bench_scoring.py
	$(TRAIN)/bin/python scripts/bench_packing.py

.venv/demo/.installed: $(INSTALLED)
	$(PYTHON) -m venv .venv/demo
	.venv/demo/bin/$(PIP_INSTALL) --editable .
	touch $@

.venv/docs/.installed: $(INSTALLED)
	$(PYTHON) -m venv .venv/docs
	.venv/docs/bin/$(PIP_INSTALL) "mkdocs-material>=9.5,<10"
	touch $@

$(TRAIN)/.installed: $(INSTALLED)
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/$(PIP_INSTALL) --no-compile "$(TORCH)"
	$(TRAIN)/bin/$(PIP_INSTALL) --no-compile "$(TORCH)" --editable ".[deepspeed,dev,ray,train]"
	touch $@

# The newest lm-eval borrows all other packages from axolotl's environment: they are gigabytes.
$(NEWEST)/.installed: $(TRAIN)/.installed
	$(PYTHON) -m venv $(NEWEST)
	$(TRAIN)/bin/python -c 'import site; print(site.getsitepackages()[0])' \
	  > $$($(NEWEST)/bin/python -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth
	$(NEWEST)/bin/$(PIP_INSTALL) --no-deps --ignore-installed \
	  "lm_eval==$(NEWEST:.venv/lm-eval-%=%)" --editable .
	touch $@

clean:
	rm -rf .venv build
