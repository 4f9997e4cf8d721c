#!/usr/bin/env bash
# Three services, each with its sidecar, on this machine: `make demo`.
#   ONCE=1          ends by itself: 0 only if every call was answered rightly
#   DEMO_BIN=DIR    uses the binaries there instead of building them
#   KEEP_LOGS=1     leaves the logs behind
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s%s%s\n' "$dim" "$*" "$plain"; }
die() { printf '%s%s%s\n' "$red" "demo: $*" "$plain" >&2; exit 1; }
indent() { sed 's/^/    /'; }
# Shows a command as one would type it, then runs it.
show() { printf '    %s$ %s%s\n' "$dim" "$*" "$plain"; "$@" | indent; }

# ---------------------------------------------------------------------------------------------------------------------
# What is needed
if [[ -z ${DEMO_BIN:-} ]]; then
  "$root/tests/setup.sh" demo
fi

if [[ -n ${DEMO_BIN:-} ]]; then
  bin=$DEMO_BIN
else
  command -v cargo >/dev/null || die "there is no cargo: install Rust from https://rustup.rs"
  step "Building pillion and pillionctl"
  (cd "$root" && cargo build --quiet --locked --package pillion --package pillionctl --bins)
  bin=${CARGO_TARGET_DIR:-$root/target}/debug
  [[ $bin == /* ]] || bin=$root/$bin
fi
pillion=$bin/pillion pillionctl=$bin/pillionctl
[[ -x $pillion && -x $pillionctl ]] || die "no pillion and pillionctl in $bin"

# ---------------------------------------------------------------------------------------------------------------------
# Whatever happens from here on, nothing is left behind
work=$(mktemp -d "${TMPDIR:-/tmp}/pillion-demo.XXXXXX")
declare -A sidecars=() # name -> process id of the sidecar; its app is its child

cleanup() {
  local code=$? name deadline
  trap - EXIT
  trap '' INT TERM HUP # once is enough
  if ((${#sidecars[@]})); then
    kill -TERM "${sidecars[@]}" 2>/dev/null || true
    deadline=$((SECONDS + 5))
    for name in "${!sidecars[@]}"; do
      while kill -0 "${sidecars[$name]}" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
      # The kernel kills the app with its sidecar.
      kill -KILL "${sidecars[$name]}" 2>/dev/null || true
    done
    wait "${sidecars[@]}" 2>/dev/null || true
  fi
  if ((code != 0 && code != 130)) && [[ -d $work/logs ]]; then
    printf '\n%sThe last lines of the logs:%s\n' "$bold" "$plain" >&2
    tail -n 15 "$work"/logs/*.log >&2 || true
  fi
  if [[ -n ${KEEP_LOGS:-} ]]; then
    printf 'The logs are in %s/logs\n' "$work"
  else
    rm -rf "$work"
  fi
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$work/logs" "$work/registry"
export PILLION_REGISTRY=file://$work/registry
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY # the calls here are on this machine

# Below the range from which the kernel takes ports for outgoing connections: they stay free until they are bound.
free_ports() {
  python3 -c '
import random, socket, sys
sockets = []
while len(sockets) < int(sys.argv[1]):
    s = socket.socket()
    try: s.bind(("127.0.0.1", random.randrange(12000, 32000)))
    except OSError: continue
    sockets.append(s)
print(*(s.getsockname()[1] for s in sockets))' "$1"
}

# start NAME SERVICE PROGRAM [ARGS]: the sidecar, which starts its app once it is ready
# A service without instances to be called (front) has no --app: its sidecar only makes calls.
# All ports are drawn at once, four for each of the five: so none is drawn twice.
read -ra pool <<<"$(free_ports 20)"
declare -A app=() outbound=() inbound=() admin=()
start() {
  local name=$1 service=$2 program=$3
  shift 3
  local ports=("${pool[@]:0:4}") called=()
  pool=("${pool[@]:4}")
  app[$name]=127.0.0.1:${ports[0]} outbound[$name]=127.0.0.1:${ports[1]} admin[$name]=127.0.0.1:${ports[2]} inbound[$name]=127.0.0.1:${ports[3]}
  [[ $service == front ]] || called=(--app "http://${app[$name]}" --inbound "${inbound[$name]}" --advertise "${inbound[$name]}")
  "$pillion" run --service "$service" --identity "$work/identity/$name" \
    --outbound "${outbound[$name]}" --admin "${admin[$name]}" "${called[@]}" \
    -- python3 -B "$here/$program" "${ports[0]}" "$@" >"$work/logs/$name.log" 2>&1 &
  sidecars[$name]=$!
}

# Until the sidecar is ready and its app answers.
ready() {
  local name deadline=$((SECONDS + 30))
  for name in "$@"; do
    "$pillion" wait --admin "${admin[$name]}" --timeout 30s || die "the sidecar of $name did not become ready"
    until curl -s -o /dev/null --max-time 2 "http://${app[$name]}/"; do
      ((SECONDS < deadline)) || die "$name does not answer"
      kill -0 "${sidecars[$name]}" 2>/dev/null || die "the sidecar of $name ended"
      sleep 0.05
    done
  done
}

issue() { "$pillionctl" ca issue --dir "$work/ca" --service "$2" --out "$work/identity/$1" --ttl 1h | sed "s|$work/||" | indent; }
customers() { python3 -B "$here/customers.py" "${app[front]##*:}" "$@" || failed=1; }
failed=0

# ---------------------------------------------------------------------------------------------------------------------
# The story
step "1. A certificate authority for this demo, and an identity for each service"
"$pillionctl" ca init --dir "$work/ca" --trust-domain demo.pillion --ttl 1d >/dev/null
issue front front
issue orders-1 orders
issue payments-1 payments
issue payments-2 payments

step "2. Four apps start, each beside its own sidecar: front, orders, payments twice"
start front front front.py
start orders-1 orders orders.py orders-1
start payments-1 payments payments.py payments-1
start payments-2 payments payments.py payments-2
ready front orders-1 payments-1 payments-2
show "$pillionctl" endpoints

step "3. A plain local call with the service's name as the host reaches a live instance"
show curl -sS --fail-with-body --max-time 10 "http://${outbound[front]}/quote?item=tea&count=3&id=by-hand" -H "Host: orders" || failed=1
note "Each *_called_by was proven by a certificate: mutual TLS 1.3, sidecar to sidecar."

step "4. Eight customers make 300 calls, half of them POST: front -> orders -> payments"
customers 300 --posts --expect payments-1 payments-2

step "5. kill -9 of payments-1, sidecar and app, in the middle of 600 more"
victim=${sidecars[payments-1]}
unset 'sidecars[payments-1]'
disown "$victim" # its death is expected: no message of the shell's about it
read -ra apps < <(cat /proc/"$victim"/task/*/children 2>/dev/null) || true
customers 600 --expect payments-1 payments-2 --kill "$victim" "${apps[@]}"
note "A call that may run twice (a GET) was repeated elsewhere. A POST in flight would have been answered"
note "with an error that says 'executed: unknown', for the caller to decide: nothing is silently run twice."

step "6. A third instance starts, and takes its share; the dead one is out when its lease is over"
issue payments-3 payments
start payments-3 payments payments.py payments-3
ready payments-3
deadline=$((SECONDS + 10))
until curl -s --max-time 2 "http://${admin[orders-1]}/table" | grep -qF "${inbound[payments-3]}"; do
  ((SECONDS < deadline)) || die "orders' sidecar has not learned of payments-3"
  sleep 0.05
done
customers 300 --posts --expect payments-3
deadline=$((SECONDS + 20))
while "$pillionctl" endpoints payments | grep -qF "${inbound[payments-1]}"; do
  ((SECONDS < deadline)) || die "payments-1 is still registered"
  sleep 0.2
done
show "$pillionctl" services

if ((failed)); then
  step "${red}Not every call was answered rightly."
  exit 1
fi
step "${green}Every call was answered rightly."
[[ -z ${ONCE:-} ]] || exit 0

try() { printf '    %s# %s%s\n    %s\n' "$dim" "$1" "$plain" "$2"; }
step "It stays up until Ctrl-C. Try:"
try "the front's page, in a browser" "http://${app[front]}/"
try "a call through the front's sidecar" "curl 'http://${outbound[front]}/quote?item=honey&count=2&id=me' -H 'Host: orders'"
try "an error that says what and why" "curl -i http://${outbound[front]}/ -H 'Host: nobody'"
try "what a sidecar counts, and what it knows" "curl http://${admin[front]}/metrics; curl http://${admin[front]}/table"
try "payments-2 dies" "kill -9 ${sidecars[payments-2]}"
try "who is registered" "$pillionctl --registry $PILLION_REGISTRY endpoints"
try "the log of a sidecar and its app" "less $work/logs/orders-1.log"
wait "${sidecars[@]}" 2>/dev/null || true
