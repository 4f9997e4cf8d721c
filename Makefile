# make demo           three services and their sidecars on this machine, until Ctrl-C (ONCE=1: once, and an exit code)
# make test           everything, with real binaries and a real etcd
# make bench          what a call costs, beside nginx, haproxy and Envoy (BENCH='--only a,b': some of it)
# make bench-curves   how that grows with connections, endpoints, services, headers, bodies and workers
# make lint           format and clippy

CARGO ?= cargo
# The end-to-end tests mostly wait: more of them than cores run side by side.
RUST_TEST_THREADS ?= 12

.PHONY: demo test bench bench-curves lint build

build:
	tests/setup.sh build
	$(CARGO) build --workspace --bins

demo:
	examples/demo/run.sh

test:
	tests/setup.sh test
	$(CARGO) build --workspace --bins
	RUST_TEST_THREADS=$(RUST_TEST_THREADS) $(CARGO) test --workspace

# Flags of pillion-bench; its --help names them.
BENCH ?=

bench bench-curves:
	tests/setup.sh bench
	$(CARGO) build --release --workspace --bins
	$(CARGO) run --release --quiet -p pillion-bench -- $(if $(filter bench-curves,$@),--curves) $(BENCH)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
