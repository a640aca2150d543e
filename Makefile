# Two commands: `make demo` trains and releases a real classifier, `make test` runs every test.
# Each sets up what it needs in .venv by itself, with plain pip and constraints.txt.

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint unit slow bench-training bench-serving reliability clean

demo: .venv/installed
	@$(BIN)/ekiben run configs/sms_spam.yaml

test: lint unit slow

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd bentos/text_classifier && ../../$(BIN)/mypy --config-file ../../pyproject.toml \
		--cache-dir ../../.mypy_cache service.py

unit: .venv/installed-for-tests
	$(BIN)/pytest --numprocesses 2 --dist worksteal tests/unit

slow: .venv/installed-for-tests
	EKIBEN_SLOW_EXAMPLES=20000 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		tests/e2e tests/integration

bench-training: .venv/installed-for-tests
	$(BIN)/python -m benchmarks.training

bench-serving: .venv/installed-for-tests
	$(BIN)/ekiben run configs/sms_spam.yaml
	$(BIN)/python -m benchmarks.serving

reliability: .venv/installed-for-tests
	$(BIN)/ekiben run configs/smoke.yaml
	$(BIN)/python -m benchmarks.reliability

.venv/installed: pyproject.toml constraints.txt
	@echo "Setting up .venv (once; some minutes)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/installed-for-tests: pyproject.toml constraints.txt
	@echo "Setting up .venv with the test tools (once; some minutes)"
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[test]'
	@touch .venv/installed $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
