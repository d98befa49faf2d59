# Two commands are enough: `make demo` and `make test`. Both set up what they need.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
export CARGO_INCREMENTAL ?= 0
BIN := $(CARGO_TARGET_DIR)/release/holdfast
KEYSTORE_BIN := $(CARGO_TARGET_DIR)/release/holdfast-keystore
# Where a tool installed by cargo is kept.
TOOLS ?= $(CARGO_TARGET_DIR)/tools

.PHONY: demo demo-standalone demo-down test test-posix test-faults soak check bench bench-grants setup setup-test setup-posix setup-faults setup-servers build

setup:
	@tests/scripts/setup.sh base

setup-test: setup
	@tests/scripts/setup.sh test

# More S3 servers for the tests: Garage, and MinIO where there is Go. Takes some minutes, once.
setup-servers: setup
	@TOOLS="$(TOOLS)" tests/scripts/setup.sh servers

setup-posix: setup-test
	@tests/scripts/setup.sh posix
	@test -x $(TOOLS)/bin/pjdfstest || cargo install --locked --root $(TOOLS) pjdfstest@0.2.2
	@test -x $(TOOLS)/bin/fsx || cargo install --locked --root $(TOOLS) fsx@0.3.2

setup-faults: setup-test
	@tests/scripts/setup.sh faults

build: setup
	cargo build --release --locked -p holdfast -p holdfast-keystore

# A keystore, a bucket, a user who is enrolled, the drive mounted: SeaweedFS comes with setup-test.
demo: build setup-test
	@tests/scripts/demo.sh "$(BIN)" "$(KEYSTORE_BIN)"

# The drive alone, on a local folder.
demo-standalone: build
	@tests/scripts/demo-standalone.sh "$(BIN)"

demo-down:
	@tests/scripts/demo-down.sh "$(BIN)"

# One profile for everything, so that the libraries are built once.
test: setup-test
	cargo build --release --locked --workspace --all-targets
	HOLDFAST_PYTHON=$(CURDIR)/.venv/bin/python PATH="$(CURDIR)/.venv/bin:$$PATH" cargo test --release --locked --workspace

# One of the suites that take minutes, on the real binary. A selection: make test-posix ONLY=rsync.
SUITE = cargo build --release --locked --workspace --all-targets && \
	HOLDFAST_PYTHON=$(CURDIR)/.venv/bin/python PATH="$(CURDIR)/.venv/bin:$$PATH" \
	cargo test --release --locked --workspace --test

# Suites that nobody here wrote, on a mounted drive: docs/semantics.md.
test-posix: setup-posix
	$(SUITE) posix -- $(ONLY)

# Crashes, disks and stores that fail, little memory, two writers.
test-faults: setup-faults
	$(SUITE) faults -- $(ONLY)

# The same at full size: hours.
soak: setup-faults setup-posix
	HOLDFAST_SOAK=1 $(MAKE) test-faults
	$(MAKE) test-posix

check: setup-test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy -p holdfast-tests --test faults --test posix --locked -- -D warnings
	$(MAKE) test
	@test -x $(TOOLS)/bin/cargo-deny || cargo install --locked --root $(TOOLS) cargo-deny
	$(TOOLS)/bin/cargo-deny check bans licenses sources
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# make bench [FOLDER=...] [RUNS=3] [MORE="--json FILE"]: against every peer on PATH, and the mount.
# MORE="--store s3" takes a SeaweedFS (make setup-test) as store, MORE="--growth" measures Holdfast
# alone with more and more small files, and MORE="--growth --growth-to 1000000" with a million.
RUNS ?= 3
bench: build
	cargo build --release --locked -p holdfast-bench
	"$(CARGO_TARGET_DIR)/release/holdfast-bench" --runs $(RUNS) $(if $(FOLDER),--folder "$(FOLDER)") $(MORE)

# make bench-grants [FOLDER=...] [RUNS=3]: what grants cost against the credentials of the same bucket.
bench-grants: build setup-test
	@tests/scripts/bench-grants.sh "$(BIN)" "$(KEYSTORE_BIN)" "$(FOLDER)" $(RUNS)
