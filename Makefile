# `make demo` and `make test` set up all they need in private environments; each is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .venv-demo
FAILED := .pytest_cache/v/cache/lastfailed
WORKERS := 4
PROGRAMS := age chromium debootstrap docker.io iproute2 openssh-client openssh-server prometheus prometheus-pushgateway restic rsync \
            systemd-container tmux

.PHONY: demo test test-alone test-unit test-system lint format clean

demo: $(DEMO)/.ready
	$(DEMO)/bin/idlewatch demo

test: $(VENV)/.ready
	@rm -f $(FAILED)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not system" || { test $$? -eq 1 && $(MAKE) --no-print-directory test-alone; }

# Tests of real processes share a few noisy cores, so up to three are tried once more: what fails alone, too, is broken.
# In the names that are kept the group (`@group`) is xdist's, and alone there is none.
test-alone:
	@sed -i 's/@[^]@"]*": true/": true/' $(FAILED)
	@count=$$(grep -c '": true' $(FAILED)) || exit 1; \
	names=$$(sed -n 's/^ *"\(.*\)": true,*$$/  \1/p' $(FAILED)); \
	test $$count -le 3 || { echo "$$count tests failed: too many to be tried again."; exit 1; }; \
	printf 'Tried again, alone:\n%s\n' "$$names"; \
	$(BIN)/pytest -n 0 --last-failed --last-failed-no-failures none -m "not system" || exit 1; \
	printf 'PASSED ONLY AT THE SECOND ATTEMPT, ALONE:\n%s\n' "$$names"

# Needs root and Debian: it installs the real programs that its tests talk to. One at a time: they look at the whole machine.
# Node's own packages bring npm, and conflict with Debian's.
test-system: $(VENV)/.ready
	apt-get update
	apt-get install --yes --no-install-recommends $(PROGRAMS) $$(command -v npm > /dev/null || echo npm)
	$(BIN)/pytest -m system
	IDLEWATCH_TEST_SEEDS=10000 $(BIN)/pytest -n 2 tests/test_schedules.py

# What starts no process: about 20 s, on two cores.
test-unit: $(VENV)/.ready
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not system"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(DEMO)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "idlewatch needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 demo")'
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# pip learned --group in 25.1, so it is brought up to date first.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "idlewatch needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 test")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable . --group dev
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache
