#!/usr/bin/env bash
# Three services, each with its sidecar, on this machine: `make demo`. ../lib.sh says what can be set.
set -euo pipefail
example=demo
# shellcheck source=../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# serve NAME: an instance of orders or payments
serve() { start "$1" "${1%-*}" http python3 -B "$here/${1%-*}.py" "${app[$1]##*:}" "$1"; }
customers() { python3 -B "$here/customers.py" "${app[front]##*:}" "$@" || failed=1; }
failed=0
draw_ports front orders-1 payments-1 payments-2 payments-3

step "1. A certificate authority for this demo, and an identity for each service"
found_authority
issue front front
issue orders-1 orders
issue payments-1 payments
issue payments-2 payments

step "2. Four apps start, each beside its own sidecar: front, orders, payments twice"
# Nobody calls front through a sidecar: its own only makes calls.
start front front calls python3 -B "$here/front.py" "${app[front]##*:}"
serve orders-1
serve payments-1
serve payments-2
ready front orders-1 payments-1 payments-2
eventually 30 "front does not answer" curl -s -o /dev/null --max-time 2 "http://${app[front]}/"
show "$pillionctl" endpoints

step "3. A plain local call with the service's name as the host reaches a live instance"
show curl -sS --fail-with-body --max-time 10 "http://${outbound[front]}/quote?item=tea&count=3&id=by-hand" -H "Host: orders" || failed=1
note "Each *_called_by was proven by a certificate: mutual TLS 1.3, sidecar to sidecar."

step "4. Eight customers make 300 calls, half of them POST: front -> orders -> payments"
customers 300 --posts --expect payments-1 payments-2

step "5. kill -9 of payments-1, sidecar and app, in the middle of 600 more"
doom payments-1
customers 600 --expect payments-1 payments-2 --kill "${doomed[@]}"
bury payments-1
note "A call that may run twice (a GET) was repeated elsewhere. A POST in flight would have been answered"
note "with an error that says 'executed: unknown', for the caller to decide: nothing is silently run twice."

step "6. A third instance starts, and takes its share; the dead one is out when its lease is over"
issue payments-3 payments
serve payments-3
ready payments-3
learns orders-1 payments-3
customers 300 --posts --expect payments-3
unlisted() { [[ $("$pillionctl" endpoints payments) != *"${inbound[$1]}"* ]]; }
eventually 20 "payments-1 is still registered" unlisted payments-1
show "$pillionctl" services

if ((failed)); then
  step "${red}Not every call was answered rightly."
  exit 1
fi
step "${green}Every call was answered rightly."
[[ -z ${ONCE:-} ]] || exit 0

step "It stays up until Ctrl-C. Try:"
try "the front's page, in a browser" "http://${app[front]}/"
try "a call through the front's sidecar" "curl 'http://${outbound[front]}/quote?item=honey&count=2&id=me' -H 'Host: orders'"
try "an error that says what and why" "curl -i http://${outbound[front]}/ -H 'Host: nobody'"
try "what a sidecar counts, and what it knows" "curl http://${admin[front]}/metrics; curl http://${admin[front]}/table"
try "payments-2 dies" "kill -9 ${running[payments-2]}"
try "who is registered" "$pillionctl --registry $PILLION_REGISTRY endpoints"
try "the log of a sidecar and its app" "less $work/logs/orders-1.log"
wait "${running[@]}" 2>/dev/null || true
