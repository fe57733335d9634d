# Every entry point of the project; for GNU make and BSD make alike.
# Options go in by variable: make demo DEMO_ARGS="--seconds 60 --port xdp"

CARGO = cargo
DEMO_ARGS =
CELLS_ARGS =
AGREE_ARGS =
BENCH_ARGS =
TEST_ARGS =

# Where cargo may write and where the tools are; see the file.
ENV = . bench/testbed/env.sh;
BIN = "$${CARGO_TARGET_DIR:-target}/release"

.PHONY: help build demo test bench cells agreement tools fmt lint doc ci ci-full clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

build: ## the release binaries: l4sd and its testbed
	@$(ENV) $(CARGO) build --release -p l4sd -p l4sd-testbed

demo: build tools ## one Prague and one CUBIC flow through 40 Mbit/s, 20 ms: live, a table, a plot
	@$(ENV) $(BIN)/l4sd-testbed demo $(DEMO_ARGS)

test: ## all tests; what this user or host cannot do is skipped and says so
	@$(ENV) $(CARGO) test --workspace $(TEST_ARGS)

bench: build ## the built-in generator, then the micro-benchmarks
	@$(ENV) $(BIN)/l4sd bench $(BENCH_ARGS)
	@$(ENV) $(CARGO) bench --workspace --benches

cells: build tools ## the acceptance cells on real traffic, with their bands
	@$(ENV) $(BIN)/l4sd-testbed cells $(CELLS_ARGS)

agreement: build tools ## measurement, live runs and simulator in one table
	@$(ENV) $(BIN)/l4sd-testbed agreement --date "$$(date -u +%F)" $(AGREE_ARGS)

tools: ## the senders of the demo: iperf3 and ethtool from the system, udp_prague into target/tools
	@$(ENV) CARGO="$(CARGO)" sh bench/testbed/tools.sh

fmt: ## format the sources
	@$(ENV) $(CARGO) fmt --all

lint: ## formatting, clippy and documentation, warnings denied
	@$(ENV) $(CARGO) fmt --all --check
	@$(ENV) $(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(ENV) RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

doc: ## the API documentation
	@$(ENV) $(CARGO) doc --workspace --no-deps

ci: ## what CI runs, from a bare Debian on
	@.ci/run

ci-full: ## the same, and every acceptance cell, and demo and tests as a freshly added user
	@.ci/run --full

clean: ## remove everything that was built
	@$(ENV) $(CARGO) clean
