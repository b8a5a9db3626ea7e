# What a user and a developer of getty_tx type. GNU make; all else comes into $(VENV) by pip.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8090
WSPORT ?= 8091
STATUSPORT ?= $(shell expr $(PORT) + 2)
JOBS ?= 2
SECONDS ?= 600
SEED ?=
ARGS ?=

BIN := $(VENV)/bin
NPM := build/npm
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

# One line from make itself instead of a traceback, and nothing after it. Expands to nothing if all is well.
unsuitable = $(shell $(PYTHON) tools/check_python.py 2>/dev/null || echo "'$(PYTHON)' does not run: getty_tx needs \
	Python 3.11 or newer; name one with PYTHON=")
checkPython = $(if $(strip $(unsuitable)),$(error $(strip $(unsuitable))))

.DEFAULT_GOAL := help
.PHONY: help run test long lint docs coverage changelog conformance asyncio soak bench clean remake
.DELETE_ON_ERROR:

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp  ## start the echo server on 127.0.0.1: TCP and UDP 8090 (PORT=), WebSocket 8091 (WSPORT=), status 8092 (STATUSPORT=)
	@echo "getty-echo on 127.0.0.1. Ctrl-C ends it; make run PORT=9000 WSPORT=9001 moves it. In another terminal:"
	@echo "  nc localhost $(PORT)          then type a line, and it comes back over TCP"
	@echo "  nc -u 127.0.0.1 $(PORT)       the same over UDP"
	@echo "  ws://localhost:$(WSPORT)/echo    for a WebSocket client, such as examples/echo.html in a browser"
	@echo "  http://127.0.0.1:$(STATUSPORT)/      its status: sessions, rates, metrics"
	@exec $(BIN)/python tools/foreground.py $(BIN)/twistd -n --pidfile= getty-echo --codec raw \
		--listen tcp:$(PORT):interface=127.0.0.1 --listen udp:$(PORT):interface=127.0.0.1 \
		--listen ws:$(WSPORT):interface=127.0.0.1:path=/echo --status tcp:$(STATUSPORT):interface=127.0.0.1

test: lint docs $(NPM)/test.stamp  ## lint, build the documentation, run all tests, build the wheel and try it
	@echo "trial: the tests, in $(JOBS) processes"
	@$(BIN)/python tools/run_trial.py -j$(JOBS) tests
	@$(BIN)/python tools/check_wheel.py

long: $(VENV)/test.stamp $(NPM)/test.stamp  ## all tests, with those that take long and three times the examples, ten minutes
	@$(BIN)/python tools/programs.py --all
	@GETTY_LONG_TESTS=1 $(BIN)/python tools/run_trial.py -j$(JOBS) tests

lint: $(VENV)/test.stamp  ## ruff, mypy and the import rules
	@echo "ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "mypy"
	@$(BIN)/mypy --no-error-summary
	@echo "import rules"
	@$(BIN)/lint-imports --no-logo

# Always from the beginning: what was built before is not warned of again.
docs: $(VENV)/test.stamp  ## the documentation as HTML, build/docs/index.html; a warning is an error
	@echo "documentation"
	@$(BIN)/sphinx-build --fresh-env --quiet --fail-on-warning --keep-going --nitpicky docs build/docs

coverage: $(VENV)/test.stamp  ## which branches the tests run, by module; HTML in build/coverage/
	@mkdir -p build
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m twisted.trial tests >build/coverage.log 2>&1 || tail -n 20 build/coverage.log
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet --directory build/coverage
	@$(BIN)/coverage report

changelog: $(VENV)/test.stamp  ## what the fragments in newsfragments/ will become in CHANGELOG.md
	@$(BIN)/towncrier build --draft --version next

conformance: $(VENV)/test.stamp  ## all of the Autobahn test suite's cases, with a report in build/ (ARGS="...")
	@$(BIN)/python tools/conformance.py $(ARGS)

asyncio: $(VENV)/test.stamp  ## CPython's own tests of asyncio on the guest loop, two minutes (ARGS="test_tasks")
	@$(BIN)/python -m tests.reactors.cpython $(ARGS)

soak: $(VENV)/run.stamp  ## ten minutes of trouble, and whether all held (SECONDS=30 SEED=1 ARGS="...")
	@$(BIN)/python -m benchmarks.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(VENV)/run.stamp  ## measure beside bare Twisted and asyncio (ARGS="...")
	@$(BIN)/python -m benchmarks $(ARGS)
	@$(if $(strip $(ARGS)),:,$(BIN)/python -m benchmarks.udp)
	@$(if $(strip $(ARGS)),:,$(BIN)/python -m benchmarks.workers)
	@$(if $(strip $(ARGS)),:,$(BIN)/python -m benchmarks.many)

clean:  ## remove the virtual environment, caches and what was built
	@if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	@rm -rf build dist .coverage* _trial_temp* .mypy_cache .ruff_cache .hypothesis .import_linter_cache twisted/plugins/dropin.cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Only a directory that is a virtual environment already is emptied, whatever VENV says.
# A virtual environment whose Python is gone (the system's was upgraded) is made again.
$(VENV)/run.stamp: pyproject.toml constraints.txt $(if $(wildcard $(BIN)/python),,remake)
	$(checkPython)
	@echo "installing getty_tx into $(VENV) (once, about a minute)"
	@if [ -f $(VENV)/pyvenv.cfg ]; then $(PYTHON) -m venv --clear $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@$(PIP) --editable '.[status]'
	@touch $@

# getty_tx is there already, so that this adds what its extra asks for and builds nothing.
$(VENV)/test.stamp: $(VENV)/run.stamp
	@echo "installing the test tools into $(VENV) (once)"
	@$(PIP) 'getty_tx[docs,test]'
	@touch $@

# The client of browsers, for tests of the gateway, npm's gRPC, its Hessian and its Dubbo. Where npm or the network is
# missing, tests with them say that they were skipped.
$(NPM)/test.stamp: Makefile
	@if command -v npm >/dev/null; then \
		echo "installing npm's client of the gateway, its gRPC, Hessian and Dubbo into $(NPM)"; \
		mkdir -p $(NPM) && npm install --prefix $(NPM) --no-save --no-audit --no-fund --ignore-scripts \
			--fetch-retries=1 --fetch-timeout=20000 centrifuge@5.7.4 ws@8.23.0 \
			@grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1 hessian.js@2.11.0 apache-dubbo-js@3.0.0-rc6 dubbo2.js@2.3.9 \
			dubbo-remoting@2.1.4 js-to-java@2.4.0 sofa-rpc-node@1.20.1 >$(NPM)/install.log 2>&1 </dev/null \
			&& touch $@ || echo "npm has failed ($(NPM)/install.log says why): tests with its clients are skipped"; \
	fi
