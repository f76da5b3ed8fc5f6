# Everything stays in this folder: programs in .venv, data in .boxoffice.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --no-input -qq
# Tests that run at once, each on servers of its own: most of them wait.
TESTS_AT_ONCE ?= 3
# Another Python: make run PYTHON=python3.13
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3)
# What the libraries in lua/lib define, for those who include them.
LUA_LIB = $(shell sed -n 's/^local function \([a-z_]*\).*/\1/p; s/^local \([a-z_]*\) =.*/\1/p' lua/lib/*.lua)
LUACHECK = luacheck -q --std lua51 --globals redis server KEYS ARGV cjson cmsgpack bit struct --no-max-line-length \
	--read-globals $(LUA_LIB) --ignore $(LUA_LIB:%=211/%) --

# Compiled once, not at every start of every process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run
run: $(VENV)/.runtime $(VENV)/.pages  ## Start everything on this machine: API, worker, Redis, PostgreSQL (PORT=8000 DATA_DIR=.boxoffice)
	@$(RUN) -m ops.cli up

.PHONY: test
test: check  ## Everything that must be true before a commit: check, then all tests
	@$(RUN) -m pytest -n $(TESTS_AT_ONCE) --dist worksteal --tb=native

.PHONY: check
check: $(VENV)/.dev $(VENV)/.axe  ## Format, lint, types, import contracts, Lua, known weaknesses of packages (build/: what a build has)
	@$(RUN) -m ruff check -q
	@$(RUN) -m ruff format -q --check
	@$(RUN) -m mypy --strict api worker boxoffice ops $(wildcard bench/*.py)
	@MYPYPATH=clients/python/src $(RUN) -m mypy --strict -p boxoffice_client
	@$(VENV)/bin/lint-imports
	@cd clients/python/src && $(CURDIR)/$(VENV)/bin/lint-imports --config ../pyproject.toml
	@$(MAKE) -s luacheck
	@$(RUN) -m tests.outside.packages

# Where the build machine lacks it, the build fails: a check that is not made is no check.
.PHONY: luacheck
luacheck:
	@if command -v luacheck >/dev/null; then $(LUACHECK) lua; \
	elif [ -n "$$CI" ]; then echo "luacheck: it is not installed, and CI must not do without (Debian: lua-check)" >&2; exit 1; \
	else echo "luacheck: skipped, it is not installed (Debian and Ubuntu: apt install lua-check)"; fi

.PHONY: bench
bench: $(VENV)/.dev  ## Measure everything on a private stack and audit it, in 15 minutes (BENCH=--quick: in 90 seconds)
	@$(RUN) -m bench $(BENCH)

.PHONY: clients
clients: $(VENV)/.dev  ## Write the generated parts of clients/ anew, after a change of the API (tests/api/openapi.json)
	@$(RUN) -m tests.outside.generated

OFTEN := test_a_sale_whose_capacity_changes_two_hundred_times_and_that_pauses_fifty_times_adds_up

.PHONY: soak
soak: $(VENV)/.dev  ## Long tests, then sales with components killed and paused, each audited (SEEDS="1 2 3" SOAK_S=60)
	@$(RUN) -m pytest -m soak tests/api tests/boxoffice tests/ops/stack/test_full_disk.py tests/ops/test_export_command.py \
		tests/invariants/test_call_off_crashes.py tests/ops/rush/test_run.py::$(OFTEN)
	@for way in tls pgbouncer; do STORY_WAY=$$way $(RUN) -m pytest tests/story || exit $$?; done
	@for seed in $(or $(SEEDS),1 2 3); do \
		$(RUN) -m ops.cli rush --chaos --seconds $(or $(SOAK_S),60) --seed $$seed || exit $$?; \
	done

.PHONY: mutants
mutants: $(VENV)/.dev  ## Take one rule away at a time; the tests must notice each
	@$(RUN) -m tests.invariants.mutants

.PHONY: mutate
mutate: $(VENV)/.dev  ## Put a random sample of small mistakes in; print what no test notices (N=200 SEED=1 MINUTES=40 FILES="a.py b.lua")
	@$(RUN) -m tests.mutation --n $(or $(N),200) --seed $(or $(SEED),1) --minutes $(or $(MINUTES),40) \
		--at-once $(or $(AT_ONCE),2) $(if $(MAP),--map) $(if $(KIND),--kind "$(KIND)") $(if $(JSON),--json $(JSON)) $(FILES)

.PHONY: help
help:  ## This list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-14s %s\n", $$1, $$2 }'

# A folder that was moved or copied has a .venv that still points to the old place.
ifneq ($(shell cat $(VENV)/.home 2>/dev/null || echo "$(CURDIR)"),$(CURDIR))
$(shell rm -rf $(VENV))
endif

# Runtime packages and the private servers, exactly those of the lock.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.home
	@echo "Installing (about half a minute, once) ..."
	@$(PIP) install --root-user-action=ignore --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --root-user-action=ignore --no-build-isolation --no-deps -e .
	@touch $@

# The lock of the developers names everything of the other one too.
$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.home
	@echo "Installing the developers' tools (once) ..."
	@$(PIP) install --root-user-action=ignore --require-hashes --only-binary :all: -r requirements-dev.lock
	@$(PIP) install --root-user-action=ignore --no-build-isolation --no-deps -e .
	@touch $@

# What browsers are given of npm's packages. Without a network it is done without, and tried again the next time.
$(VENV)/.pages: api/pages/npm.json | $(VENV)/.runtime
	@$(RUN) -m ops.npm pages && touch $@ || true

$(VENV)/.axe: api/pages/npm.json | $(VENV)/.dev
	@$(RUN) -m ops.npm pages tests && touch $@ || true

# The first that was built with optimisation, or else the first that can make a virtual environment.
$(VENV)/.home:
	@for python in $(PYTHONS); do \
		case $$($$python -I ops/stack/interpreter.py 2>/dev/null) in \
		optimised) best=$$python; break;; \
		plain) plain=$${plain:-$$python};; \
		bare) bare=$${bare:-$$python};; \
		esac; \
	done; \
	found=$${best:-$${plain:-$$bare}}; \
	if [ -z "$$found" ]; then \
		echo "boxoffice needs Python 3.11 or newer, and $(or $(PYTHON),python3) is none." >&2; \
		echo "Install one, or say where it is: make run PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	$$found -m venv $(VENV) >$(CURDIR)/.venv.log 2>&1 || { \
		cat .venv.log >&2; rm -rf .venv.log $(VENV); \
		echo "$$found cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	}; \
	rm -f .venv.log; printf '%s' "$(CURDIR)" > $@
