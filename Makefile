# The gate and the everyday commands. `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Where `make deps` puts the tools that the distribution does not have.
XDG_CACHE_HOME ?= $(HOME)/.cache
TOOLS := $(XDG_CACHE_HOME)/imagesetd-tests
export PATH := $(TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)

# Flags for `make demo`, for instance ARGS=--exit.
ARGS ?=

.NOTPARALLEL:
.PHONY: ansible help build demo bench test test-opm check deps format lint proto tree docs tests

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/imagesetd
	cargo build --release --locked

# Both in one build: apart, they would be built with other features and take twice as long.
demo: ## Mirror two releases between small registries on this machine (ARGS=--exit to leave at the end)
	cargo build --release --locked --bin imagesetd --example demo
	cargo run -q --release --locked --example demo -- $(ARGS)

check: format lint ## Format, lints, unit tests: what to run before every commit
	cargo test --locked --lib --test architecture

test: deps format lint proto tree docs ansible tests ## Everything, on a fresh Debian or Ubuntu too: installs what it needs first

# Beside `test`: building opm takes minutes, so CI runs this where it was built before.
test-opm: ## Have opm, which clusters run, read and serve rebuilt catalogs; builds it at first (needs Go)
	@.ci/opm "$(TOOLS)/bin"
	IMAGESETD_OPM="$(TOOLS)/bin/opm" cargo test --locked --test mirror -- operators:: catalogs::

deps: ## Install what the tests need (root or sudo): registries, skopeo, grpcurl, buf, Rust
	@.ci/deps

format:
	cargo fmt --check

lint:
	cargo clippy --locked --all-targets -- -D warnings

proto:
	buf lint

# The tree of dependencies: licences, banned crates, sources.
tree:
	@if command -v cargo-deny >/dev/null; then \
	    cargo deny --log-level error check bans licenses sources; \
	else \
	    echo "cargo-deny is not installed: licences and banned crates are looked at in CI only"; \
	fi

# Registries on tmpfs: what is compared is copiers, not the disk.
bench: ## Compare with the copiers that are installed: requests, time, memory (ARGS=--help)
	TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo /tmp) cargo bench --locked --bench peers -- $(ARGS)

docs: ## Build the developers' documentation, broken links are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

ansible: ## Check the Ansible collection: sanity, units, lint, documentation (needs `make deps`)
	@.ci/ansible

# Last in `test`, so that what ran is what one sees. The closing line adds up the summaries of all test binaries. A test that finds
# nothing to look at (real data, for instance, which IMAGESETD_REAL_DATA names the folder of) passes and says so in the file
# IMAGESETD_SKIPPED: it counts as skipped, and is named.
tests:
	@log=$$(mktemp); skipped=$$(mktemp); trap 'rm -f "$$log" "$$skipped"' EXIT; status=0; \
	IMAGESETD_SKIPPED="$$skipped" cargo test --locked --no-fail-fast 2>&1 | tee "$$log" || status=$$?; \
	sort -u "$$skipped" | sed 's/^/skipped: /'; \
	awk -v none="$$(sort -u "$$skipped" | wc -l)" \
	    '/^test result: / { gsub(/;/, ""); passed += $$4; failed += $$6; ignored += $$8 } \
	    END { printf "%d passed, %d failed, %d skipped\n", passed - none, failed, ignored + none; exit passed == 0 }' "$$log"; \
	exit $$status
