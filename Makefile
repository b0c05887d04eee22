# One word per duty, the same here and in CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A prebuilt RocksDB beside the checkout saves ten minutes of compiling; without it RocksDB is built
# from source.
PREBUILT := ../shared/prebuilt/env.sh
WITH_PREBUILT := if [ -f $(PREBUILT) ]; then source $(PREBUILT); fi;
CARGO := $(WITH_PREBUILT) cargo
RELEASE := $(WITH_PREBUILT) scripts/release

# Duties share one target directory and one machine.
.NOTPARALLEL:
.PHONY: help run release cluster cluster-tls check slow test bare outdated fmt fmt-check lint unit faults chaos chaos-smoke chaos-soak chaos-compose chaos-recovery chaos-mutants simulate simulate-mutants fuzz upgrade hostile hostile-short compose-test bench profile clients deployment conformance openapi deny doc clean system fixture

help: ## List the duties
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: system ## Build and start a durable single node on 127.0.0.1:2113, data under ./data
	@$(RELEASE)
	@scripts/run-single

release: system ## Build the programs as they are released: optimised with the recorded profile
	@$(RELEASE)

cluster: system ## Build and start three nodes on loopback (HTTP 2111, 2112, 2113); Ctrl-C stops all
	@$(RELEASE)
	@scripts/run-cluster

cluster-tls: system ## The same with TLS for clients and between nodes, certificates made on the way
	@$(RELEASE)
	@scripts/run-cluster tls

# Needs no network, no root and no other service, and installs nothing. (Some tests call curl and
# python3.)
check: fmt-check lint unit ## Format, lint, unit and API tests: what every change must pass, in minutes

test: system check slow deny conformance openapi clients deployment faults chaos-smoke hostile-short compose-test ## Everything that must pass; installs what it needs

fmt: ## Format the sources
	cargo fmt --all

fmt-check: ## Say what is not formatted, and change nothing
	cargo fmt --all -- --check

lint: ## Clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --test tls --test transfer --test revoked_answers --test faults --test hostile \
		--test compose --locked -- -D warnings

# Always the whole workspace and always as tests, so that every duty builds the dependencies with
# the same features, once: `cargo build` leaves out the features that only tests need, and would
# build many dependencies a second time.
DEBUG_BUILD := $(CARGO) test --workspace --locked --no-run

# Tests wait for disks and for each other's nodes more than they work.
unit: ## Unit and integration tests, and the examples of the documentation
	export RUST_TEST_THREADS=$$((2 * $$(nproc))); $(CARGO) test --workspace --locked

slow: ## Tests of the API that wait for minutes: TLS, transfers, answers to readers who lost a right
	$(CARGO) test --workspace --locked --test tls --test transfer --test revoked_answers

# Disks that fail are a file system of the suite. Containers often have no device for it.
FUSE := [ -c /dev/fuse ] || { echo "LEFT OUT: power cuts and failing disks, which need /dev/fuse"; export FAULTS_WITHOUT_FUSE=1; }

# What moves clocks and makes network namespaces. Without it the suite leaves these faults out.
CLOCKS_AND_NETWORK := [ "$$(id -u)" -ne 0 ] || scripts/install-system-packages libfaketime iproute2 nftables

faults: system ## Faults against real processes
	# They start the binary of this profile; it must be there and new.
	$(DEBUG_BUILD)
	@$(WITH_PREBUILT) scripts/earlier-release v0.1.0
	@[ "$$(id -u)" -eq 0 ] || [ ! -c /dev/fuse ] || scripts/install-system-packages fuse3
	@$(CLOCKS_AND_NETWORK)
	@$(FUSE); $(CARGO) test --workspace --locked --test faults

# The programs of the suite, and the node of this profile that they start.
CHAOS_BUILD := $(DEBUG_BUILD) && $(DEBUG_BUILD) --test faults

chaos-smoke: system ## Random faults with fixed seeds, under three minutes (docs/correctness.md)
	@$(CLOCKS_AND_NETWORK)
	$(CHAOS_BUILD)
	target/debug/chaos smoke

chaos: system ## Random faults of all kinds for half an hour, by random seeds, which it prints
	@$(CLOCKS_AND_NETWORK)
	$(CHAOS_BUILD)
	@$(WITH_PREBUILT) scripts/earlier-release
	target/debug/chaos soak --hours 0.5

HOURS ?= 6

chaos-soak: system ## The same for HOURS=n, 6 if none are given
	@$(CLOCKS_AND_NETWORK)
	$(CHAOS_BUILD)
	@$(WITH_PREBUILT) scripts/earlier-release
	target/debug/chaos soak --hours $(HOURS)

chaos-recovery: system ## How soon writes go on after kills and partitions, and how fast a node catches up
	$(CHAOS_BUILD)
	target/debug/chaos recovery

# The program with faults is built first and moved away, so that no other duty finds it.
chaos-mutants: system ## Runs against nodes with deliberate faults, each of which must fail, and without them, to pass
	$(DEBUG_BUILD) --features headwater/deliberate-faults --test layers
	mkdir -p target/deliberate && cp target/debug/headwater target/deliberate/headwater
	@$(CLOCKS_AND_NETWORK)
	$(CHAOS_BUILD)
	export HEADWATER_BIN=$(CURDIR)/target/deliberate/headwater; target/debug/chaos mutants; target/debug/chaos mutants --controls

fuzz: system ## Arbitrary bytes for whatever a node reads: MINUTES=n for all targets together, or for TARGET=x
	@$(WITH_PREBUILT) scripts/fuzz

SEEDS ?= 100
SEED ?= 1

# TRACE=file keeps the trace of the last seed.
simulate: system ## Clusters on simulated time: SEEDS=n of them, from SEED=first on (docs/correctness.md)
	$(DEBUG_BUILD) --lib
	export SEEDS=$(SEEDS) SEED=$(SEED); \
		$(CARGO) test --workspace --locked --lib -- --ignored --exact simulation::tests::many_seeds --nocapture

simulate-mutants: system ## Simulations with deliberate faults: one of the first hundred seeds has to find each
	$(DEBUG_BUILD) --lib
	$(CARGO) test --workspace --locked --lib -- --ignored --exact simulation::tests::deliberate_faults_are_found --nocapture

upgrade: system ## A cluster of the first release is upgraded node by node under load, and taken back; part of faults
	$(DEBUG_BUILD)
	@$(WITH_PREBUILT) scripts/earlier-release v0.1.0
	$(CARGO) test --workspace --locked --test faults -- upgrade

hostile: system ## Attacks as outsiders make them against one node and three, honest clients beside; half an hour
	@$(RELEASE)
	export HOSTILE=long HEADWATER_BIN=$(CURDIR)/target/release/headwater; $(CARGO) test --workspace --locked --test hostile

# What of it does not compare rates, which other work on a machine may spoil; against the debug
# build: whether honest clients are served, and what the node holds. Without the words after `--` this
# is all of the short form.
hostile-short: system ## The attacks that need minutes, against the debug build; part of test
	$(DEBUG_BUILD)
	$(CARGO) test --workspace --locked --test hostile -- --skip rates --skip three_nodes

compose-test: system ## The containers of deploy/docker-compose.yml behind their balancer, paused, killed and cut off; needs an engine
	@$(DEBUG_BUILD)
	@$(WITH_PREBUILT) scripts/compose-test

SECONDS_OF_CHAOS ?= 60

chaos-compose: system ## Random faults against the same containers; needs an engine
	$(CHAOS_BUILD)
	@$(WITH_PREBUILT) scripts/compose-test target/debug/chaos --mode compose --seconds $(SECONDS_OF_CHAOS)

bench: system ## Measure (release build); see docs/performance.md
	$(RELEASE)
	target/release/bench

profile: system ## Record the profile anew, for a release (docs/adr/0015-recorded-profile.md); ten minutes
	@$(WITH_PREBUILT) scripts/profile

clients: system ## Feeds read by a feed reader, an Atom grammar, a client of the original and through a caching proxy
	@$(DEBUG_BUILD)
	@scripts/clients

deployment: system ## The files of deploy with what reads them: balancers, Prometheus, Helm, systemd
	@$(DEBUG_BUILD)
	@scripts/deployment

conformance: system ## Replay recorded answers of the reference server against a fresh node and a fresh cluster
	@$(DEBUG_BUILD)
	@scripts/conformance

openapi: system ## Requests made from the OpenAPI document against a fresh node, looking for answers it does not describe
	@$(DEBUG_BUILD)
	@scripts/openapi

fixture: ## Keep data, a backup and an export of the present formats, once one has changed (node/tests/formats.rs)
	@$(DEBUG_BUILD)
	@scripts/fixture

outdated: ## Show which dependencies lag behind
	@scripts/outdated

bare: ## Try `make run` and `make test` on a bare Debian, in a container; compiles everything
	@scripts/bare

deny: system ## Licences, sources, bans and advisories of dependencies, by deny.toml
	@scripts/deny

doc: ## API documentation of the code
	$(CARGO) doc --workspace --no-deps --locked

clean: ## Remove what was built; data is kept
	cargo clean

system: ## Install what building needs and this machine lacks (apt, sudo)
	@scripts/install-system-packages
