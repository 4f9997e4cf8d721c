# What the examples share; each run.sh sources it and tells its own story. It wants `example` set to the example's name.
#   ONCE=1             ends by itself: 0 only if all went as it should
#   EXAMPLE_BIN=DIR    uses the binaries there, and what tests/setup.sh has installed, instead of building and installing
#   EXAMPLE_PORTS='…'  ports to use instead of free ones, five for each name given to draw_ports
#   KEEP_LOGS=1        leaves the logs behind
# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is used there, and `example` the other way round

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$root/$target

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s%s%s\n' "$dim" "$*" "$plain"; }
die() { printf '%s%s%s\n' "$red" "$example: $*" "$plain" >&2; exit 1; }
indent() { sed 's/^/    /'; }
# Shows a command as one would type it, then runs it.
show() { printf '    %s$ %s%s\n' "$dim" "$*" "$plain"; "$@" | indent; }
try() { printf '    %s# %s%s\n    %s\n' "$dim" "$1" "$plain" "$2"; }

# ---------------------------------------------------------------------------------------------------------------------
# What is needed
if [[ -z ${EXAMPLE_BIN:-} ]]; then
  "$root/tests/setup.sh" "$example"
  command -v cargo >/dev/null || die "there is no cargo: install Rust from https://rustup.rs"
  step "Building pillion and pillionctl"
  (cd "$root" && cargo build --quiet --locked --package pillion --package pillionctl --bins)
  EXAMPLE_BIN=$target/debug
fi
pillion=$EXAMPLE_BIN/pillion pillionctl=$EXAMPLE_BIN/pillionctl
[[ -x $pillion && -x $pillionctl ]] || die "no pillion and pillionctl in $EXAMPLE_BIN"

# ---------------------------------------------------------------------------------------------------------------------
# Whatever happens from here on, nothing is left behind
work=$(mktemp -d "${TMPDIR:-/tmp}/pillion-$example.XXXXXX")
declare -A running=() # name -> process id of the sidecar, whose app is its child, or of whatever else an example starts

cleanup() {
  local code=$? name deadline
  trap - EXIT
  trap '' INT TERM HUP # once is enough
  if ((${#running[@]})); then
    kill -TERM "${running[@]}" 2>/dev/null || true
    deadline=$((SECONDS + 5))
    for name in "${!running[@]}"; do
      while kill -0 "${running[$name]}" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
      # The kernel kills the app with its sidecar.
      kill -KILL "${running[$name]}" 2>/dev/null || true
    done
    wait "${running[@]}" 2>/dev/null || true
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

mkdir "$work/logs" "$work/registry" "$work/config"
export PILLION_REGISTRY=file://$work/registry
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY # the calls here are on this machine

# ---------------------------------------------------------------------------------------------------------------------
# Identities, ports, sidecars
found_authority() { "$pillionctl" ca init --dir "$work/ca" --trust-domain "$example.pillion" --ttl 1d >/dev/null; }
# issue NAME SERVICE: an identity for an instance
issue() { "$pillionctl" ca issue --dir "$work/ca" --service "$2" --out "$work/identity/$1" --ttl 1h | sed "s|$work/||" | indent; }

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

# name -> address; `door` is for one that leads to one service, where an example wants such a one
declare -A app=() outbound=() inbound=() admin=() door=()
# draw_ports NAME...: all at once, so that none is drawn twice.
draw_ports() {
  local name pool
  read -ra pool <<<"${EXAMPLE_PORTS:-$(free_ports $((5 * $#)))}"
  ((${#pool[@]} >= 5 * $#)) || die "EXAMPLE_PORTS names ${#pool[@]} ports, $((5 * $#)) are needed"
  for name in "$@"; do
    app[$name]=127.0.0.1:${pool[0]} outbound[$name]=127.0.0.1:${pool[1]}
    inbound[$name]=127.0.0.1:${pool[2]} admin[$name]=127.0.0.1:${pool[3]} door[$name]=127.0.0.1:${pool[4]}
    pool=("${pool[@]:5}")
  done
}

# opens_door NAME SERVICE: for start, an address at which NAME's sidecar takes calls of that service, for callers who name none
opens_door() { printf '[[outbound]]\nlisten = "%s"\nservice = "%s"\n' "${door[$1]}" "$2" >"$work/config/$1.toml"; }

# start NAME SERVICE SPEAKS [COMMAND...]: the sidecar, which starts the command once it is ready. SPEAKS is what the app
# behind it speaks (http, h2c), or `calls` when there is nothing to be called and the sidecar only makes calls.
start() {
  local name=$1 service=$2 speaks=$3 more=()
  shift 3
  [[ $speaks == calls ]] || more+=(--app "$speaks://${app[$name]}" --inbound "${inbound[$name]}" --advertise "${inbound[$name]}")
  [[ ! -e $work/config/$name.toml ]] || more+=(--config "$work/config/$name.toml")
  (($# == 0)) || more+=(-- "$@")
  "$pillion" run --service "$service" --identity "$work/identity/$name" \
    --outbound "${outbound[$name]}" --admin "${admin[$name]}" "${more[@]}" >>"$work/logs/$name.log" 2>&1 &
  running[$name]=$!
}

# eventually SECONDS WHAT COMMAND...: until the command succeeds
eventually() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < deadline)) || die "$what"
    sleep 0.05
  done
}

# Until each sidecar is ready: an app's own instance is registered then.
ready() {
  local name
  for name in "$@"; do
    "$pillion" wait --admin "${admin[$name]}" --timeout 30s || die "the sidecar of $name did not become ready"
  done
}

knows() { [[ $(curl -s --max-time 2 "http://${admin[$1]}/table") == *"${inbound[$2]}"* ]]; }
# learns CALLER NAME...: until the caller's sidecar has these instances in its table
learns() {
  local caller=$1 name
  shift
  for name in "$@"; do eventually 20 "the sidecar of $caller has not learned of $name" knows "$caller" "$name"; done
}

# counted NAME METRIC [LABEL="VALUE"...]: a sidecar's metric, summed over the series with these labels
counted() {
  local name=$1
  shift
  curl -s --max-time 5 "http://${admin[$name]}/metrics" | awk -v wanted="$*" '
    BEGIN { count = split(wanted, words, " ") }
    index($0, words[1] "{") == 1 {
      for (i = 2; i <= count; i++) if (!index($0, words[i])) next
      sum += $NF
    }
    END { print sum + 0 }'
}

# doom NAME: sets `doomed` to the processes of an instance, sidecar first and then its app; their death is expected from here on.
doom() {
  local sidecar=${running[$1]}
  disown "$sidecar" # no message of the shell's about it
  read -ra doomed < <(echo "$sidecar" "$(cat /proc/"$sidecar"/task/*/children 2>/dev/null)")
}
# bury NAME: once it is dead
bury() { unset "running[$1]"; }
