#!/usr/bin/env bash
# A chat of three services, five instances, each with its sidecar, and a sidecar for the browsers: `make chat`.
# ../lib.sh says what can be set; with ONCE=1 two people chat in headless Chromium while an instance is killed.
set -euo pipefail
example=chat
# shellcheck source=../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

logics=(logic-1 logic-2 logic-3)
draw_ports browser front "${logics[@]}" presence
export NODE_PATH=$target/chat/node_modules PYTHONPATH=$work/messages
# A sidecar that is told to end waits this long for calls to end. WebSockets and streams never do by themselves.
export PILLION_TIMEOUTS_DRAIN=1s
url=http://${door[browser]}
[[ -d $NODE_PATH ]] || die "there is no $NODE_PATH: run tests/setup.sh chat"
# Debian's own Python, which has Debian's gRPC.
serve_logic() { start "$1" logic h2c /usr/bin/python3 -B "$here/logic/logic.py" "${app[$1]##*:}" "$1" "$work/room.db"; }

step "1. A certificate authority for this chat, and an identity for each service"
found_authority
for name in browser front "${logics[@]}" presence; do issue "$name" "${name%-*}"; done

step "2. Three instances of logic (gRPC), presence (JSON-RPC), front (the page), and a sidecar for the browsers"
mkdir "$PYTHONPATH"
protoc -I "$here" --python_out="$PYTHONPATH" chat.proto
opens_door browser front
opens_door front logic
for name in "${logics[@]}"; do serve_logic "$name"; done
start presence presence http node "$here/presence/presence.js" "${app[presence]##*:}"
start front front http node "$here/front/front.js" "${app[front]##*:}" \
  --logic "${door[front]}" --presence "http://${outbound[front]}/jsonrpc/presence" --origin "$url"
start browser browser calls
ready browser front "${logics[@]}" presence
show "$pillionctl" endpoints

# posts NAME: how many an instance has answered
posts() { counted "$1" pillion_method_calls_total 'direction="inbound"' 'method="chat.Logic/Post"' 'outcome="ok"'; }
in_flight() { counted "$1" pillion_calls_in_flight 'direction="inbound"'; }
has_answered() { (($(posts "$1") > 0)); }
holds() { (($(in_flight "$1") >= $2)); }
calm() { (($(in_flight logic-1) + $(in_flight logic-2) + $(in_flight logic-3) == 2)); }

# Sets `victim` to an instance that has a stream, while nobody talks and streams are all that is in flight.
choose_one() {
  eventually 60 "the two streams and nothing else should be in flight at logic" calm
  for victim in "${logics[@]}"; do if holds "$victim" 1; then break; fi; done
}

# Kills it in the worst moment: with a post in flight at it beside the stream. So that there certainly is one, its app stops
# answering just before.
kill_one() {
  doom "$victim"
  kill -STOP "${doomed[@]:1}"
  eventually 60 "no post came to $victim, which is frozen" holds "$victim" 2
  before_kill=$(posts "$victim")
  kill -KILL "${doomed[@]}"
  bury "$victim"
}

restart_one() {
  serve_logic "$victim"
  ready "$victim"
  all_answer "$victim"
}

all_answer() {
  local name
  for name in "$@"; do eventually 60 "$name has answered no post" has_answered "$name"; done
}

logged() { grep -c "$1" "$work/logs/front.log" || true; }

if [[ -n ${ONCE:-} ]]; then
  step "3. Ada and Grace chat, each in a browser of their own, at $url/"
  coproc driver { TMPDIR=$work exec node "$here/drive.js" "$url/" 2>"$work/logs/drive.log"; }
  running[driver]=$!
  exec {hears}<&"${driver[0]}" {says}>&"${driver[1]}"
  while read -ru "$hears" line; do
    case $line in
      !spread) all_answer "${logics[@]}"; echo "${logics[*]}" >&"$says" ;;
      !choose) choose_one; echo "$victim" >&"$says" ;;
      !kill) kill_one; echo "$victim" >&"$says" ;;
      !restart) restart_one; echo "$victim" >&"$says" ;;
      *) indent <<<"$line" ;;
    esac
  done
  wait "${running[driver]}" || die "the chat did not go as it should"
  unset 'running[driver]'

  step "4. Who did what, as the sidecars counted it and the front's log has it"
  for name in "${logics[@]}"; do
    if [[ $name == "$victim" ]]; then
      echo "    $name: $before_kill posts answered until it was killed, $(posts "$name") after its restart"
    else
      echo "    $name: $(posts "$name") posts answered"
    fi
  done
  echo "    presence: $(counted presence pillion_calls_total 'direction="inbound"' 'outcome="ok"') calls answered"
  echo "    cut by the kill: $(counted front pillion_calls_total 'service="logic"' 'outcome="local"') calls;" \
    "asked again by the front: $(logged '^messages after') streams, $(logged '^post .* is repeated') posts"
  step "${green}All that was said was seen by both, once."
  exit 0
fi

step "The chat is at ${green}$url/${plain}${bold} until Ctrl-C. Open it twice, and try:"
try "an instance of logic dies, sidecar and app" "kill -9 ${running[logic-2]}"
try "who is in the room, by JSON-RPC" "curl http://${outbound[front]}/jsonrpc/presence -d '{\"jsonrpc\": \"2.0\", \"method\": \"list\", \"id\": 1}'"
try "what the front's sidecar counts, and what it knows" "curl http://${admin[front]}/metrics; curl http://${admin[front]}/table"
try "a line in its log for each call, from now on" "curl -X PUT http://${admin[front]}/log -H 'x-pillion-admin: 1' -d '{\"access\": true}'"
try "the log of a sidecar and its app" "tail -f $work/logs/front.log"
wait "${running[@]}" 2>/dev/null || true
