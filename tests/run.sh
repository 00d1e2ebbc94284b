#!/usr/bin/env bash
# Runs all tests, in the same way as CI.
#   tests/run.sh             all steps
#   tests/run.sh STEP...     some of them (tests/run.sh --list names them)
# It first installs missing programs and reports them. Then it runs the tests in a network namespace
# that has only loopback. So no test can reach the outside, ports never collide, and no process
# outlives the run. Every step runs, even if an earlier step failed.
#   SIGNALBOX_TEST_LOGS=DIR  keeps the logs of all servers there (by default they are deleted with
#                            the other temporary files)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_DENY=0.20.2
CARGO_FUZZ=0.13.2
FUZZ_SECONDS=5   # for each target; fuzz/README.md describes the long run
NODE=20          # as in "engines" of clients/js
NPM_FOLDERS=(clients/js tests examples/token-express examples/react-call)
STEP_TIMEOUT=2100
STEPS=(fmt clippy deny build cargo-test fuzz chaos bench instructions js-lint js-types js-test signatures compose api edge browser hygiene)

step_fmt() {
  cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check &&
    cargo fmt --manifest-path bench/Cargo.toml --check && cargo fmt --manifest-path bench/micro/Cargo.toml --check
}
step_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_deny() {
  wait_for_job deny || return
  cargo deny --offline check bans licenses sources
}
step_build() { cargo build --workspace --locked --bins; }
# The scenarios mostly wait, so more of them than cores run at once.
step_cargo_test() { RUST_TEST_THREADS=${RUST_TEST_THREADS:-6} cargo test --workspace --locked --no-fail-fast; }
step_fuzz() {
  wait_for_job fuzz || return
  fuzz/run.sh "$FUZZ_SECONDS"
}
# A fixed seed, so that two runs of one commit do the same. tests/chaos/README.md describes the long
# run.
step_chaos() {
  cargo build --workspace --locked --bins --quiet
  "${CARGO_TARGET_DIR:-target}/debug/chaos" --redis single,sentinel,cluster --seed 7 --seconds 10 --peers 60
}
# Measures nothing; shows that the load generator still speaks the protocol of the server. Its
# dependencies are compiled with those of the workspace.
step_bench() {
  local target=${CARGO_TARGET_DIR:-$PWD/target} scenario
  local cargo_options=(--manifest-path bench/Cargo.toml --target-dir "$target" --locked)
  cargo build --workspace --locked --bins --quiet
  cargo clippy "${cargo_options[@]}" --all-targets -- -D warnings
  cargo clippy --manifest-path bench/micro/Cargo.toml --target-dir "$target" --locked -- -D warnings
  cargo test "${cargo_options[@]}" --quiet
  cargo build "${cargo_options[@]}" --quiet
  local options=(--smoke --signalbox "$target/debug/signalbox" --floor "$target/debug/floor" --report "$WORK/bench"
    --matchbox none --npm none)
  for scenario in "forward signalbox tokio actix-ws actix-handover redis-script" "joins signalbox-eddsa" "storm signalbox-redis"; do
    # shellcheck disable=SC2086
    "$target/debug/bench" "${options[@]}" $scenario
  done
}
# Fails if the server executes more instructions for a message or a join than bench/instructions.txt
# allows.
step_instructions() { CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} bench/instructions.sh; }
step_js_lint() { npm --prefix clients/js run lint; }
step_js_types() { npm --prefix clients/js run types; }
step_js_test() { npm --prefix clients/js test; }
step_signatures() { wait_for_job signatures; }
step_compose() {
  local compose=(docker-compose)
  command -v docker-compose >/dev/null || compose=(docker compose)
  "${compose[@]}" version --short
  "${compose[@]}" -f docker-compose.yml config -q
  COMPOSE_PROFILES=edge "${compose[@]}" -f docker-compose.yml config -q
}
# Tests the HTTP API against its own OpenAPI document, with a fixed seed.
step_api() {
  wait_for_job schemathesis || return
  cargo build --workspace --locked --bins --quiet
  tests/fuzz-api/run.sh "${CARGO_TARGET_DIR:-target}/debug/signalbox" "$WORK/schemathesis"
}
# `exec`, so that the end of STEP_TIMEOUT reaches the runner, which ends its tests.
step_edge() {
  wait_for_job fastapi || return
  exec node tests/node-tests.mjs tests/edge
}
step_browser() { exec node tests/node-tests.mjs tests/browser; }
step_hygiene() { tests/hygiene.sh "$SIGNALBOX_TEST_LOGS"; }

say() { printf '%s\n' "$*"; }
die() { say "tests/run.sh: $*" >&2; exit 2; }

# ---- before the namespace: all work that needs the network ---------------------------------------

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else die "not root, and no sudo, to run: $*"; fi
}

install_packages() {
  local pair command missing=()
  for pair in redis-server:redis-server redis-cli:redis-tools nginx:nginx turnserver:coturn openssl:openssl envsubst:gettext-base chromium:chromium firefox-esr:firefox-esr valgrind:valgrind \
    go:golang-go php:php-cli ip:iproute2 cc:gcc c++:g++ ld:libc6-dev unshare:util-linux; do
    command=${pair%%:*}
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${pair#*:}")
  done
  python3 -c "import ensurepip" 2>/dev/null || missing+=(python3 python3-venv)
  python3 -c "import websockets" 2>/dev/null || missing+=(python3-websockets)
  php -r 'exit(extension_loaded("curl") ? 0 : 1);' 2>/dev/null || missing+=(php-curl)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
  # The npm package is large, and a recent enough node usually has its own npm.
  command -v npm >/dev/null || missing+=(nodejs npm)
  if [ ${#missing[@]} -eq 0 ]; then say "packages: nothing is missing"; return; fi
  command -v apt-get >/dev/null || die "missing: ${missing[*]} (and there is no apt-get to install them)"
  say "packages: installing ${missing[*]}"
  # The tests start the servers; the packages must not start them.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod +x /usr/sbin/policy-rc.d
    policy_made=1
  fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$WORK/apt.log" 2>&1 ||
    { tail -20 "$WORK/apt.log"; die "apt-get could not install ${missing[*]}"; }
}

node_major() { node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0; }

install_node() {
  if [ "$(node_major)" -lt "$NODE" ]; then
    local arch
    arch=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
    say "node: $(node --version 2>/dev/null || echo none) is older than $NODE; installing one for this run"
    npm install --loglevel=error --no-audit --no-fund --prefix "$WORK/node" "node-linux-$arch@$((NODE + 2))"
    PATH=$(dirname "$(find "$WORK/node/node_modules" -path '*/bin/node' | head -1)"):$PATH
    export PATH
  fi
  say "node: $(node --version)"
}

install_modules() {
  local folder
  for folder in "${NPM_FOLDERS[@]}"; do
    if [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
      say "npm: $folder has its modules"
    else
      say "npm: npm ci in $folder"
      (cd "$folder" && npm ci --loglevel=error --ignore-scripts --no-audit --no-fund)
    fi
  done
}

# `start_job NAME COMMAND...` runs a command in the background. In the namespace,
# `wait_for_job NAME` prints its output and returns its status.
start_job() {
  local name=$1
  shift
  # A rename writes the status file atomically, so a reader never sees a part of it.
  {
    local status=0
    "$@" >"$WORK/$name.log" 2>&1 || status=$?
    echo "$status" >"$WORK/$name.ended"
    mv "$WORK/$name.ended" "$WORK/$name.status"
  } &
  background+=($!)
}
wait_for_job() {
  [ -e "$WORK/$1.status" ] || say "waiting for a job that was started before…"
  until [ -e "$WORK/$1.status" ]; do sleep 1; done
  cat "$WORK/$1.log"
  return "$(cat "$WORK/$1.status")"
}

install_cargo_deny() {
  if command -v cargo-deny >/dev/null; then cargo deny --version; return; fi
  cargo install --locked --quiet cargo-deny --version "$CARGO_DENY" && cargo deny --version
}

install_cargo_fuzz() {
  if command -v cargo-fuzz >/dev/null; then cargo fuzz --version; return; fi
  cargo install --locked --quiet cargo-fuzz --version "$CARGO_FUZZ" && cargo fuzz --version
}

# Installs it in a separate Python environment. Every package is pinned by its hash.
install_schemathesis() {
  python3 -m venv "$WORK/schemathesis" &&
    "$WORK/schemathesis/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r tests/fuzz-api/requirements.txt &&
    "$WORK/schemathesis/bin/schemathesis" --version
}

# The example has its environment where its README makes it.
install_fastapi() {
  local folder=examples/token-fastapi
  if [ "$folder/.venv/bin/uvicorn" -nt "$folder/requirements.txt" ]; then say "fastapi: $folder has its packages"; return; fi
  python3 -m venv --clear "$folder/.venv" &&
    "$folder/.venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$folder/requirements.txt"
}

# Checks the signatures of the registry for the packages in package-lock.json. npm verifies them
# with keys that it fetches from sigstore.dev.
check_signatures() {
  local folder output
  for folder in "${NPM_FOLDERS[@]}"; do
    if output=$(cd "$folder" && npm audit signatures --fetch-retries=0 2>&1); then
      say "$folder: $output"
    elif grep -qiE 'ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|E4[0-9][0-9]|no dependencies to audit' <<<"$output"; then
      say "skipped: npm cannot fetch the keys or the signatures from here. package-lock.json still pins the packages by their hashes."
      grep -m1 -iE 'request to|E4[0-9][0-9]|no dependencies' <<<"$output" || true
      return 77
    else
      say "$folder: $output"
      return 1
    fi
  done
}

# A full disk shows up as failures of whatever step writes next. So it is reported before them.
report_disk() {
  local folder free
  for folder in "${CARGO_TARGET_DIR:-.}" "$WORK"; do
    free=$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "${free:-99}" -ge 4 ] || say "disk: only $free GiB free for $folder; a run from a clean clone writes about 4 GiB"
  done
}

prepare() {
  report_disk
  command -v cargo >/dev/null || die "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later (https://rustup.rs)"
  install_packages
  if is_chosen deny; then
    command -v cargo-deny >/dev/null || say "cargo-deny: installing $CARGO_DENY in the background"
    start_job deny install_cargo_deny
  fi
  if is_chosen fuzz; then
    command -v cargo-fuzz >/dev/null || say "cargo-fuzz: installing $CARGO_FUZZ in the background"
    start_job fuzz install_cargo_fuzz
  fi
  if is_chosen api; then start_job schemathesis install_schemathesis; fi
  if is_chosen edge; then start_job fastapi install_fastapi; fi
  install_node
  install_modules
  if is_chosen signatures; then start_job signatures check_signatures; fi
  say "cargo: fetching dependencies"
  cargo fetch --locked --quiet
  if is_chosen fuzz; then cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml; fi
  if is_chosen bench || is_chosen instructions; then cargo fetch --locked --quiet --manifest-path bench/Cargo.toml; fi
  if is_chosen bench; then cargo fetch --locked --quiet --manifest-path bench/micro/Cargo.toml; fi
}

# ---- in the namespace ----------------------------------------------------------------------------

run_steps() {
  export CARGO_NET_OFFLINE=true PATH=$PATH:/usr/sbin:/sbin
  # CI builds once, and the state of incremental builds would take two thirds of its disk space.
  [ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0
  local step status start line results=() passed=0 failed=0 skipped=0
  for step in "${CHOSEN[@]}"; do
    printf '\n==== %s ====\n' "$step"
    start=$SECONDS status=0
    timeout --foreground --kill-after=10 "$STEP_TIMEOUT" "$0" --step "$step" </dev/null || status=$?
    case $status in
      0) line=passed passed=$((passed + 1)) ;;
      77) line=skipped skipped=$((skipped + 1)) ;;
      124 | 137) line="FAILED (not finished in $STEP_TIMEOUT s)" failed=$((failed + 1)) ;;
      *) line=FAILED failed=$((failed + 1)) ;;
    esac
    results+=("$(printf '%-12s %4d s  %s' "$step" $((SECONDS - start)) "$line")")
  done
  printf '\n==== summary ====\n'
  printf '%s\n' "${results[@]}"
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

# Uses the best isolation that is possible: network and processes, else network, else none. It
# reports the choice.
run_isolated() {
  local kind
  for kind in '--net --pid --fork --mount-proc --kill-child' '--net' '--user --map-root-user --net --pid --fork --mount-proc --kill-child'; do
    # shellcheck disable=SC2086
    if unshare $kind true 2>/dev/null; then
      say "namespace: unshare $kind"
      # shellcheck disable=SC2086
      unshare $kind -- "$0" --inside "${CHOSEN[@]}"
      return
    fi
  done
  say "namespace: not permitted here; the tests run in the network of this machine"
  "$0" --inside "${CHOSEN[@]}"
}

is_chosen() { [[ " ${CHOSEN[*]} " == *" $1 "* ]]; }

cleanup() {
  local pid
  for pid in "${background[@]}"; do kill "$pid" 2>/dev/null || true; done
  if [ -n "$policy_made" ]; then as_root rm -f /usr/sbin/policy-rc.d; fi
  rm -rf "$WORK"
}

case ${1-} in
  --list) printf '%s\n' "${STEPS[@]}"; exit ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit ;;
  --step) "step_${2//-/_}"; exit ;;
  --inside)
    shift
    CHOSEN=("$@")
    ip link set lo up 2>/dev/null || true
    run_steps
    exit
    ;;
esac

CHOSEN=("$@")
[ $# -gt 0 ] || CHOSEN=("${STEPS[@]}")
for step in "${CHOSEN[@]}"; do
  [[ " ${STEPS[*]} " == *" $step "* ]] || die "unknown step $step; the steps are: ${STEPS[*]}"
done

background=() policy_made=''
WORK=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-tests.XXXXXX")
chmod 755 "$WORK"
trap cleanup EXIT
trap 'exit 130' INT TERM
export WORK TMPDIR=$WORK/tmp SIGNALBOX_TEST_LOGS=${SIGNALBOX_TEST_LOGS:-$WORK/logs}
mkdir -p "$TMPDIR" "$SIGNALBOX_TEST_LOGS"

prepare
run_isolated
