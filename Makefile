# The two that matter: `make demo` sees it work, `make test` proves it. Both set up .venv first, once.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test chaos simulate bench lint format lock clean

demo: $(READY)
	$(BIN)/runlane demo

# Four files at a time, on two cores: most tests wait for processes to start, to die, or for leases to expire.
test: lint
	$(BIN)/pytest -n 4 --dist loadfile

# Thousands of random histories in virtual time, an hour or so; one is repeated with `-m tests.simulator --seed N`.
simulate: $(READY)
	$(BIN)/python -m tests.simulator --seeds 5000 --from $$(date +%j000) --processes 2

# Real workers and Redis under every kind of fault at once, some minutes; `-m tests.chaos --help` names the others.
chaos: $(READY)
	$(BIN)/python -m tests.chaos mix

# Ours beside its peers, a quarter of an hour on a quiet machine; `-m tests.benchmarks --help` says how to do less.
bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Exact versions that this commit was tested with, made from a fresh environment.
lock:
	rm -rf build/lock
	python3 -m venv build/lock
	build/lock/bin/pip install --quiet '.[dev]'
	build/lock/bin/pip freeze --exclude runlane > requirements.lock

$(READY): pyproject.toml requirements.lock
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@

$(VENV)/.bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
