# Two commands are enough: `make demo` and `make test`. Both set up what they need.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
export CARGO_INCREMENTAL ?= 0
BIN := $(CARGO_TARGET_DIR)/release/holdfast
# Where a tool installed by cargo is kept.
TOOLS ?= $(CARGO_TARGET_DIR)/tools

.PHONY: demo demo-down test check bench setup setup-test setup-servers build

setup:
	@tests/scripts/setup.sh base

setup-test: setup
	@tests/scripts/setup.sh test

# More S3 servers for the tests: Garage, and MinIO where there is Go. Takes some minutes, once.
setup-servers: setup
	@TOOLS="$(TOOLS)" tests/scripts/setup.sh servers

build: setup
	cargo build --release --locked -p holdfast

demo: build
	@tests/scripts/demo.sh "$(BIN)"

demo-down:
	@tests/scripts/demo-down.sh "$(BIN)"

# One profile for everything, so that the libraries are built once.
test: setup-test
	cargo build --release --locked --workspace --all-targets
	HOLDFAST_PYTHON=$(CURDIR)/.venv/bin/python PATH="$(CURDIR)/.venv/bin:$$PATH" cargo test --release --locked --workspace

check: setup-test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(MAKE) test
	@test -x $(TOOLS)/bin/cargo-deny || cargo install --locked --root $(TOOLS) cargo-deny
	$(TOOLS)/bin/cargo-deny check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# make bench [FOLDER=...] [RUNS=3] [MORE="--json FILE"]: against every peer on PATH, and the mount.
RUNS ?= 3
bench: build
	cargo build --release --locked -p holdfast-bench
	"$(CARGO_TARGET_DIR)/release/holdfast-bench" --runs $(RUNS) $(if $(FOLDER),--folder "$(FOLDER)") $(MORE)
