# limpet. `make help` lists what can be done; nothing needs to be done before it.

# The first Python of 3.11 or later on the path; name another one with `make PYTHON=…`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

LOCK := uv pip compile -q --universal --generate-hashes --no-header --upgrade --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help run test lint types bench soak security lock clean programs mosquitto softhsm

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @ 2>/dev/null \
	|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)

run: $(VENV)/run ## show a node publishing real readings (READINGS=20 ends after 20)
	@exec $(BIN)/limpet demo $(if $(READINGS),--readings $(READINGS))

test: $(VENV)/dev ## lint, types and all tests
	@$(MAKE) --no-print-directory -j4 programs build/labgrid lint types
	@# They wait more than they compute, so six at a time. What passes at a second try is shown, as a RERUN.
	@$(BIN)/pytest -n 6 --dist worksteal --reruns 1 $(PYTEST)

lint: $(VENV)/dev ## style (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/dev build/stubs ## types: the host tools strictly, the firmware against the ESP32's stubs
	@$(BIN)/mypy
	@MYPYPATH=build/stubs $(BIN)/mypy --config-file firmware/mypy.ini --custom-typeshed-dir build/stubs

bench: $(VENV)/dev mosquitto ## measure; results go to docs/benchmarks.md and build/bench.json
	@$(BIN)/python -m tests.bench.run

soak: $(VENV)/dev build/labgrid programs ## what takes longer: every power cut, long outages, random trouble (SOAK_MINUTES=10)
	@$(BIN)/pytest -m soak -n 2 -rP $(PYTEST)

security: $(VENV)/dev programs ## run the tests of the security promises; writes docs/security.md
	@$(BIN)/python -m tests.security.report

lock: $(VENV)/dev ## pin the dependencies of pyproject.toml anew (needs uv)
	@$(LOCK) --extra build pyproject.toml -o requirements.txt
	@$(LOCK) --extra build --extra hil --extra dev pyproject.toml -o requirements-dev.txt
	@$(LOCK) requirements-stubs.in -o requirements-stubs.txt
	@$(LOCK) requirements-labgrid.in -o requirements-labgrid.txt

clean: ## remove what was made here
	@rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

$(VENV)/python:
	@[ -n "$(PYTHON)" ] || { echo "limpet needs Python 3.11 or later; name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
		echo "This Python cannot make a virtual environment; installing python3-venv …"; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq -y python3-venv >/dev/null; \
		$(PYTHON) -m venv $(VENV) >/dev/null 2>&1; } || { rm -rf $(VENV); \
		echo "Install Python's venv module first: sudo apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/run: $(VENV)/python requirements.txt pyproject.toml
	@echo "Installing what limpet needs into $(VENV) …"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements-dev.txt
	@echo "Installing what its tests need …"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

build/stubs: requirements-stubs.txt | $(VENV)/run
	@rm -rf $@
	@$(PIP) --require-hashes --no-deps --target $@ -r requirements-stubs.txt
	@touch $@

# In an environment of its own: labgrid brings another pyserial.
build/labgrid: requirements-labgrid.txt | $(VENV)/python
	@rm -rf $@
	@echo "Installing a labgrid for the tests …"
	@{ $(BIN)/python -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: --require-hashes -r requirements-labgrid.txt; } \
	|| { rm -rf $@; echo "labgrid cannot be installed from here, so its tests are skipped."; }
	@[ ! -d $@ ] || touch $@

# The broker of the tests, and a PKCS#11 token in software. Without them the tests that need them are skipped;
# of the brokers the embedded one is tested then.
programs: mosquitto softhsm

mosquitto:
	@command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || { $(call install,mosquitto,mosquitto); } \
	|| echo "Mosquitto cannot be installed from here, so its tests are skipped: install the package 'mosquitto'."

softhsm: | mosquitto
	@command -v softhsm2-util >/dev/null || { $(call install,softhsm2,softhsm); } \
	|| echo "SoftHSM cannot be installed from here, so its tests are skipped: install the package 'softhsm2'."

# Debian's name of a package, Homebrew's name of it.
define install
echo "Installing $(1) …"; \
	if command -v apt-get >/dev/null; then $(SUDO) apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y $(1) >/dev/null; \
	elif command -v brew >/dev/null; then brew install --quiet $(2); else false; fi
endef
