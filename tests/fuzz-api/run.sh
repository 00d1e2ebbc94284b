#!/usr/bin/env bash
# Fuzzes the HTTP API with its own OpenAPI document. An answer must be documented and must not be
# 5xx.
#   tests/fuzz-api/run.sh BINARY VENV [ARGS...]
# BINARY is the all-in-one server, VENV is a Python environment with requirements.txt. The script
# makes an API key with all scopes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$1 venv=$2
shift 2

work=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-fuzz.XXXXXX")
server=''
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
: >"$work/out"
# The document has the largest bounds that a configuration can set.
SIGNALBOX_API_KEYS="fuzz:$secret" SIGNALBOX__AUTH__TOKEN_TTL_MAX=24h \
  SIGNALBOX__API_KEYS__FUZZ__SCOPES=tokens,rooms,moderate,security,usage,events,webhooks \
  "$binary" --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
  url=$(sed -n 's|.* \(http://[^/]*\)/.*|\1|p' "$work/out")
  [ -z "$url" ] || break
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.1
done
[ -n "${url:-}" ] || { echo "the server did not start"; cat "$work/log"; exit 1; }

status=0
(cd "$work" && "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "$url/api/openapi.json" \
  --auth "fuzz:$secret" --max-time "${FUZZ_SECONDS:-75}" "$@") || status=$?
kill -0 "$server" || { echo "the server has died"; status=1; }
if grep 'panicked at' "$work/log"; then status=1; fi
exit "$status"
