# The commands of this project. `make` alone explains them.
#
# Everything is incremental: what is up to date is left alone. Each target sets up what it needs, so
# `make test` and `make demo` work in a fresh clone on a new machine.

MAKEFLAGS += --no-print-directory
NODE := node
BIN := node_modules/.bin
# How many drills `make drills` does over the whole matrix (or over SCENARIO=NAME[,NAME…] alone), and
# how many kills while the guest writes to a disk (none when a scenario is named).
RUNS ?= 100
SCENARIO ?=
DISK_RUNS ?= $(if $(SCENARIO),0,50)
COMMA := ,
# How many schedules `make sim` runs; SEED= replays one.
SEEDS ?= 2000
SEED ?=
# Passed on by `make demo` and `make bench`, for example: make bench ARGS=--help
ARGS ?=
# What `make bench` measures, one after the other. ARGS are for one of them: epochs, or PARTS=peers.
MORE_PARTS := $(basename $(notdir $(wildcard $(addprefix bench/,limits.ts peers.ts sync.ts switchover.ts scrapes.ts hostile.ts))))
PARTS ?= $(if $(ARGS),epochs,epochs $(MORE_PARTS))

.PHONY: help setup setup-root build package typescript native guest demo pair test test-linux bench drills sim lint \
  format clean

help:
	@echo 'make demo        shows the main job: a guest survives the death of its host (as root)'
	@echo 'make pair        a protected guest with its dashboards that stays up until Ctrl-C (as root)'
	@echo 'make test        sets up, builds, lints and runs every test (as root)'
	@echo 'make test-linux  a Linux kernel survives its host; builds it first, once (as root)'
	@echo 'make bench       measures; tables on the terminal and JSON in build/bench/ (as root)'
	@echo 'make drills      RUNS=100 faults on real pairs, and DISK_RUNS=50 with a disk (as root);'
	@echo '                 SCENARIO=NAME for one kind alone; ft-drill list names them'
	@echo 'make sim         runs SEEDS=2000 simulated schedules; SEED=n replays one and explains it'
	@echo 'make package     one file for npm install -g, in build/package/, with all that a host needs'
	@echo 'make build       TypeScript to dist/, native addon and fixture guest to build/'
	@echo 'make lint        checks the form of TypeScript and C++; make format puts it right'
	@echo 'make setup       installs what is missing (Debian packages only as root)'
	@echo 'make clean       removes dist/ and build/'

setup:
	@MAKE_GOAL='$(MAKECMDGOALS)' tools/setup

# The same, for what needs KVM, TAP devices and network namespaces.
setup-root:
	@MAKE_GOAL='$(MAKECMDGOALS)' tools/setup --root

build: setup typescript native guest

# tsc keeps its own record of what is up to date in dist/.
typescript: setup
	@$(BIN)/tsc -p tsconfig.json

native: setup
	@tools/build-native

guest: setup
	@mkdir -p build/guest
	@$(MAKE) -s -C guest/beacon
	@$(MAKE) -s -C guest/hostile
	@$(MAKE) -s -C guest/echo

package: build
	@tools/make-package

demo: setup-root build
	@$(NODE) dist/demo/demo.js $(ARGS)

# A sandbox pair that stays up: ft-drill sandbox, with the flags in ARGS.
pair: setup-root build
	@$(NODE) dist/src/cli/ft-drill.js sandbox $(ARGS)

test: setup-root build lint
	@tools/run-tests

# How often: FT_LINUX_RUNS.
test-linux: setup-root build
	@test/linux/build-guest
	@tools/run-tests --project linux

bench: setup-root build
	@code=0; for part in $(PARTS); do $(NODE) dist/bench/$$part.js $(ARGS) || code=$$?; done; exit $$code

drills: setup-root build
	@code=0; \
	$(NODE) dist/src/cli/ft-drill.js run $(or $(subst $(COMMA), ,$(SCENARIO)),all) --drills $(RUNS) \
	  --json build/drills.json --html build/drills.html || code=$$?; \
	if [ $(DISK_RUNS) -gt 0 ]; then \
	  DISK_RUNS=$(DISK_RUNS) tools/run-tests --project drill-long || code=$$?; \
	fi; exit $$code

# Planted bugs: make sim ARGS='--mutation all'.
sim: typescript
	@$(NODE) dist/test/sim/main.js $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

lint: setup
	@tools/lint

format: setup
	@tools/lint --write

clean:
	rm -rf dist build
