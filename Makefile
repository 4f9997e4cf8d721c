# make demo           three services and their sidecars on this machine, until Ctrl-C (ONCE=1: once, and an exit code)
# make chat           a chat with a page, gRPC and JSON-RPC behind it, until Ctrl-C (ONCE=1: two driven browsers, and an exit code)
# make test           everything, with real binaries and a real etcd
# make bench          what a call costs, beside nginx, haproxy and Envoy (BENCH='--only a,b': some of it)
# make bench-curves   how that grows with connections, endpoints, services, headers, bodies and workers
# make counts         instructions of the call path, against the committed baseline (bench/counts/README.md)
# make lint           format and clippy

CARGO ?= cargo
# The end-to-end tests mostly wait: more of them than cores run side by side.
RUST_TEST_THREADS ?= 12

.PHONY: demo chat test bench bench-curves counts counts-baseline counted lint build

build:
	tests/setup.sh build
	$(CARGO) build --workspace --bins

demo chat:
	examples/$@/run.sh

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

# The runner has to be of the library's version. It only starts valgrind: built without optimisation, that is quickest.
GUNGRAUN = $(shell sed -n '/^name = "gungraun"$$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)
RUNNER = $(CURDIR)/target/gungraun-runner-$(GUNGRAUN)

counts: counted
	$(CARGO) run --quiet -p pillion-counts

counts-baseline:
	@test -n "$$REASON" || { echo "say why: make counts-baseline REASON='why'" >&2; exit 64; }
	$(MAKE) counted
	$(CARGO) run --quiet -p pillion-counts -- --raise "$$REASON"

counted:
	tests/setup.sh counts
	test -x $(RUNNER)/bin/gungraun-runner || \
		$(CARGO) install --quiet --debug --locked gungraun-runner --version $(GUNGRAUN) --root $(RUNNER)
	rm -rf target/gungraun
	GUNGRAUN_RUNNER=$(RUNNER)/bin/gungraun-runner \
		$(CARGO) bench --quiet -p pillion-counts --bench counts -- --save-summary=json >target/counts.log || \
		{ cat target/counts.log; false; }

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
