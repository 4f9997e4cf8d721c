#!/usr/bin/env bash
# Installs the Debian packages that the build, the tests and the benchmarks need beside Rust. Does nothing for what is
# there already. `tests/setup.sh bench` adds what `make bench` compares with.
set -euo pipefail
cd "$(dirname "$0")/.."

# command:package
wanted=(protoc:protobuf-compiler cc:gcc make:make curl:curl)
case "${1:-test}" in
    build) ;;
    demo) wanted+=(python3:python3) ;;
    test) wanted+=(etcd:etcd-server wrk:wrk python3:python3) ;;
    bench) wanted+=(wrk:wrk nginx:nginx-light) ;;
    *) echo "usage: tests/setup.sh [build|demo|test|bench]" >&2; exit 64 ;;
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
# A client that the tests call with. Debian's own Python has it from Debian, whatever other python3 is first on PATH.
if [[ ${1:-test} == test ]] && ! /usr/bin/python3 -c 'import requests' 2>/dev/null; then
    missing+=(python3-requests)
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
    # etcd and nginx would start services on installation; ours run on ports of their own, by hand.
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
