#!/usr/bin/env bash
# Measures Signalbox beside other servers and beside servers without logic. README.md describes what
# is measured and how to read it.
#   bench/run.sh                          everything; writes bench/RESULTS.md (about an hour and a half)
#   bench/run.sh SCENARIO [SERVER...]     a part; the report goes below target/
#   bench/run.sh forward signalbox signalbox=/path/to/another/build tokio
#   bench/run.sh browser                  click to connected in Chromium, beside PeerJS
#   bench/run.sh --list                   the scenarios and the servers
# Options, anywhere:
#   --quick              fewer and shorter rounds: under three minutes
#   --smoke              only shows that everything works
#   --rounds N           how often each server is measured
#   --seconds S          how long one measurement of a rate takes
#   --accept-busy        keeps rounds in which the rest of the machine was busy
#   --profile NAME       the Cargo profile of Signalbox: dist (as shipped), or release, which builds
#                        faster and is the default of --quick and --smoke
#   --server-cpus LIST   the CPUs of the servers, by default 0
#   --load-cpu N         the CPU of the load, by default the last one
# Packages are installed into $BENCH_CACHE, by default ~/.cache/signalbox-bench.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MATCHBOX=0.15.0
QUICK_SERVERS=(signalbox signalbox-redis matchbox socket-io-redis actix-ws tokio)

die() { printf 'bench/run.sh: %s\n' "$*" >&2; exit 2; }
say() { printf '%s\n' "$*"; }
need() { PATH=$PATH:/usr/sbin command -v "$1" >/dev/null || die "$1 is missing: install $2"; }

profile='' mode='' server_cpus=0 load_cpu=$(($(nproc) - 1)) names=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit ;;
    --quick | --smoke) mode=${1#--}; options+=("$1") ;;
    --rounds | --seconds) options+=("$1" "${2:?a value for $1}"); shift ;;
    --accept-busy | --list) options+=("$1") ;;
    --profile) profile=${2:?a profile}; shift ;;
    --server-cpus) server_cpus=${2:?a list of CPUs}; shift ;;
    --load-cpu) load_cpu=${2:?a CPU}; shift ;;
    -*) die "unknown option $1 (--help names all)" ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || names=(all)
[ "$mode" != quick ] || [ ${#names[@]} -gt 1 ] || names+=("${QUICK_SERVERS[@]}")
servers=("${names[@]:1}")
[ "${names[0]}" != browser ] || servers=(signalbox peerjs)
[ -n "$profile" ] || { [ -n "$mode" ] && profile=release || profile=dist; }
[ "$(nproc)" -gt 1 ] || die "one CPU is not enough: the servers need one, and the load needs another"

cache=${BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/signalbox-bench}
target=${CARGO_TARGET_DIR:-target}
bench_target=${CARGO_TARGET_DIR:-bench/target}
facts=()

# Is a server chosen whose name matches this pattern, and without a build of its own?
is_chosen() {
  local server
  [ ${#servers[@]} -gt 0 ] || return 0
  for server in "${servers[@]}"; do
    # shellcheck disable=SC2053
    [[ $server == $1 ]] && return 0
  done
  return 1
}

build() {
  need cargo "Rust (https://rustup.rs)"
  need setpriv util-linux
  need taskset util-linux
  say "building the load generator and the floors"
  cargo build --release --locked --quiet --manifest-path bench/Cargo.toml
  if is_chosen 'signalbox' || is_chosen 'signalbox-eddsa' || is_chosen 'signalbox-redis*'; then
    say "building Signalbox (profile $profile)"
    cargo build --profile "$profile" --locked --quiet -p signalbox
  fi
}

install() {
  if is_chosen '*redis*'; then need redis-server "Redis 7.0 or later"; fi
  if is_chosen matchbox && [ ! -x "$cache/matchbox-$MATCHBOX/bin/matchbox_server" ]; then
    say "installing matchbox_server $MATCHBOX"
    # --locked: the versions that matchbox has published with it.
    CARGO_TARGET_DIR=$cache/matchbox-build cargo install --quiet --locked matchbox_server \
      --version "=$MATCHBOX" --root "$cache/matchbox-$MATCHBOX"
    rm -rf "$cache/matchbox-build"
  fi
  if is_chosen peerjs || is_chosen 'socket-io*'; then
    need node "Node.js 18 or later"
    mkdir -p "$cache/npm"
    if ! cmp -s bench/npm/package-lock.json "$cache/npm/package-lock.json" || [ ! -d "$cache/npm/node_modules" ]; then
      say "installing the servers of npm"
      cp bench/npm/package.json bench/npm/package-lock.json "$cache/npm/"
      (cd "$cache/npm" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    fi
    cp bench/npm/*.mjs bench/browser/* "$cache/npm/"
  fi
}

fact() { facts+=(--fact "$1: $2"); }
version_of() { sed -n "/^name = \"$1\"\$/{n;s/version = \"\(.*\)\"/\1/p}" bench/Cargo.lock | tail -1; }
npm_version_of() { sed -n "/\"node_modules\/${1//\//\\/}\": {/{n;s/.*\"version\": \"\(.*\)\".*/\1/p}" bench/npm/package-lock.json; }

collect_facts() {
  fact date "$(date -u +%F)"
  fact machine "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, $(awk '/MemTotal/ { print int($2 / 1048576 + 0.5) }' /proc/meminfo) GiB, Linux $(uname -r)"
  fact commit "$(git describe --always --dirty 2>/dev/null || echo unknown), profile $profile, $(rustc --version)"
  fact pinning "servers on CPU $server_cpus, load on CPU $load_cpu"
  fact floors "actix-web $(version_of actix-web), actix-ws $(version_of actix-ws), actix-http $(version_of actix-http), tokio $(version_of tokio)"
  fact servers "matchbox_server $MATCHBOX, peer $(npm_version_of peer), socket.io $(npm_version_of socket.io), @socket.io/redis-adapter $(npm_version_of @socket.io/redis-adapter), Node.js $(node --version 2>/dev/null || echo none), Redis $(redis-server --version 2>/dev/null | sed 's/.*v=\([^ ]*\).*/\1/')"
}

# Click to connected: real browsers, in a network of their own that has only loopback.
run_browser() {
  local rounds=15 isolate=(unshare --net --pid --fork --mount-proc --kill-child --)
  [ -z "$mode" ] || rounds=2
  need chromium Chromium
  "${isolate[@]}" true 2>/dev/null || isolate=()
  say "browser: click to connected"
  "${isolate[@]}" sh -c 'ip link set lo up 2>/dev/null || true; exec node "$@"' sh "$cache/npm/clicks.mjs" \
    "$(realpath "$target/$profile/signalbox")" "$rounds" "$(realpath "$report")/BROWSER.md" "$server_cpus"
}

build
install
collect_facts
ulimit -n "$(ulimit -Hn)"

# A full run writes the page of the repository; a part would leave out the rest.
report=$bench_target/bench-report
[ "${names[*]}" != all ] || [ ${#options[@]} -gt 0 ] || report=bench
mkdir -p "$report"
case ${names[0]} in
  browser) run_browser; cat "$report/BROWSER.md"; exit ;;
  all) [ "$report" != bench ] || run_browser ;;
esac
exec taskset -c "$load_cpu" "$bench_target/release/bench" \
  --signalbox "$target/$profile/signalbox" --floor "$bench_target/release/floor" \
  --matchbox "$cache/matchbox-$MATCHBOX/bin/matchbox_server" --npm "$cache/npm" \
  --server-cpus "$server_cpus" --report "$report" "${facts[@]}" "${options[@]}" "${names[@]}"
