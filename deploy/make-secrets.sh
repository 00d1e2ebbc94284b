#!/bin/sh
# Makes what docker-compose.yml mounts as secrets, in deploy/secrets (or the folder given): never overwrites a file, but for api_keys,
# which gets the digest of a key that was made anew.
#   deploy/make-secrets.sh [--name HOST] [FOLDER]
# --name is the name in the self-signed certificate of the edge (default localhost). Put your own certificate there instead.
set -eu
umask 077

name=localhost
if [ "${1-}" = --name ]; then
  name=${2:?--name needs a host name}
  shift 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1-"$here/secrets"}

# The folder is closed and the files in it are readable: a container sees single files, mounted, under whatever user it runs
# as, and nobody else on this machine can reach them.
mkdir -p "$folder"
chmod 700 "$folder"

# put NAME: writes standard input to a new file; says so.
put() {
  cat >"$folder/$1"
  chmod 444 "$folder/$1"
  echo "made $folder/$1"
}
missing() {
  [ ! -e "$folder/$1" ] || { echo "kept $folder/$1"; return 1; }
}
random() { openssl rand -hex 32; }
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }

if missing auth_secret; then openssl rand -base64 48 | put auth_secret; fi
# Empty is none; during a rotation the old secret stands here.
if missing auth_secret_previous; then put auth_secret_previous </dev/null; fi
# Seals the handles with which clients come back; of its own, so that it can be changed without the tokens.
if missing session_key; then openssl rand -base64 48 | put session_key; fi
if missing session_key_previous; then put session_key_previous </dev/null; fi
# What TURN credentials are made with, for the services, and the same as coturn reads it (profile `turn`).
if missing turn_secrets; then
  rm -f "$folder/turnserver.conf"
  random | put turn_secrets
fi
if missing turnserver.conf; then
  tr -s ', \t' '\n' <"$folder/turn_secrets" | sed -n 's/^..*$/static-auth-secret=&/p' | put turnserver.conf
fi
# Keys of the API, as id:secret: the application backend's, and the operator's, which takes back. A service needs only the
# digests; they are in api_keys, beside those that you have added.
digest() {
  [ -s "$folder/$1_key" ] || return 0
  key=$(cat "$folder/$1_key")
  printf '%s:sha256=%s\n' "${key%%:*}" "$(sha256 "${key#*:}")"
}
others() { tr -s ', \t' '\n' <"$folder/api_keys" | grep -v -e "^$1:" -e '^$' || true; }
for id in backend operator; do
  missing "${id}_key" || continue
  printf '%s:%s\n' "$id" "$(random)" | put "${id}_key"
  [ -e "$folder/api_keys" ] || continue
  all=$(others "$id" && digest "$id")
  rm -f "$folder/api_keys"
  printf '%s\n' "$all" | put api_keys
done
if missing api_keys; then { digest backend && digest operator; } | put api_keys; fi

# The store's passwords and its list of users belong together.
if missing redis.acl; then
  signal=$(random) auth=$(random)
  rm -f "$folder/redis_url_signal" "$folder/redis_url_auth"
  printf 'redis://signal:%s@redis:6379/0\n' "$signal" | put redis_url_signal
  printf 'redis://auth:%s@redis:6379/0\n' "$auth" | put redis_url_auth
  # An ACL file takes no comments before Redis 7 and no blank lines before 7.2: only the rules go in.
  grep '^user' "$here/redis/users.acl.template" |
    sed -e "s/@SIGNAL@/$(sha256 "$signal")/" -e "s/@AUTH@/$(sha256 "$auth")/" | put redis.acl
fi

if missing edge.key; then
  rm -f "$folder/edge.crt"
  pair=$(mktemp -d)
  trap 'rm -rf "$pair"' EXIT
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$name" \
    -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" -keyout "$pair/key" -out "$pair/crt" 2>/dev/null
  put edge.key <"$pair/key"
  put edge.crt <"$pair/crt"
fi
