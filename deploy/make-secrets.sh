#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, in deploy/secrets or in FOLDER. It never
# overwrites a file, except api_keys: this file gets the digest of a key that was made again.
#   deploy/make-secrets.sh [--name HOST] [--redis-prefix PREFIX] [FOLDER]
# --redis-prefix is the value of redis.prefix, for the users of Redis. --name is the name in the self-signed certificate of the edge (default localhost). Replace this
# certificate with your own.
set -eu
umask 077

name=localhost
prefix=
while :; do
  case ${1-} in
    --name) name=${2:?--name needs a host name} ;;
    --redis-prefix) prefix=${2:?--redis-prefix needs the value of redis.prefix}: ;;
    *) break ;;
  esac
  shift 2
done
case $prefix in
  *[!A-Za-z0-9._:-]*) echo "--redis-prefix may have letters, digits, -, _ and . only" >&2; exit 2 ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1-"$here/secrets"}

# Other users of this machine cannot enter the folder. The files in it are readable, because each
# container sees single mounted files and runs under its own user.
mkdir -p "$folder"
chmod 700 "$folder"

# write_secret NAME: writes standard input to a new file and reports it.
write_secret() {
  cat >"$folder/$1"
  chmod 444 "$folder/$1"
  echo "made $folder/$1"
}
is_missing() {
  [ ! -e "$folder/$1" ] || { echo "kept $folder/$1"; return 1; }
}
random_hex() { openssl rand -hex 32; }
# words FILE: the secrets of a file, one a line, as the services read them: without the byte order
# mark and the line ends of an editor.
words() {
  mark=$(printf '\357\273\277')
  tr -s ', \t\r' '\n' <"$1" | sed -e "s/$mark//g" -e '/^$/d'
}
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }

if is_missing auth_secret; then openssl rand -base64 48 | write_secret auth_secret; fi
# Empty means none. During a rotation, this file holds the old secret.
if is_missing auth_secret_previous; then write_secret auth_secret_previous </dev/null; fi
# Seals resume handles. It is a separate key, so you can replace it without affecting tokens.
if is_missing session_key; then openssl rand -base64 48 | write_secret session_key; fi
if is_missing session_key_previous; then write_secret session_key_previous </dev/null; fi
# The services make TURN credentials with these secrets. turnserver.conf has the same secrets in the
# format of coturn (profile `turn`).
if is_missing turn_secrets; then
  rm -f "$folder/turnserver.conf"
  random_hex | write_secret turn_secrets
fi
if is_missing turnserver.conf; then
  words "$folder/turn_secrets" | sed 's/^/static-auth-secret=/' | write_secret turnserver.conf
fi
# API keys, as id:secret: one for the application backend, and one for the operator, who may write
# access rules. A service needs only their digests. These are in api_keys, next to the keys that you
# have added.
key_digest() {
  [ -s "$folder/$1_key" ] || return 0
  key=$(words "$folder/$1_key")
  printf '%s:sha256=%s\n' "${key%%:*}" "$(sha256 "${key#*:}")"
}
keys_except() { words "$folder/api_keys" | grep -v "^$1:" || true; }
for id in backend operator; do
  is_missing "${id}_key" || continue
  printf '%s:%s\n' "$id" "$(random_hex)" | write_secret "${id}_key"
  [ -e "$folder/api_keys" ] || continue
  all=$(keys_except "$id" && key_digest "$id")
  rm -f "$folder/api_keys"
  printf '%s\n' "$all" | write_secret api_keys
done
if is_missing api_keys; then { key_digest backend && key_digest operator; } | write_secret api_keys; fi

# The passwords of the store and its list of users belong together.
if is_missing redis.acl; then
  signal=$(random_hex) auth=$(random_hex)
  rm -f "$folder/redis_url_signal" "$folder/redis_url_auth"
  printf 'redis://signal:%s@redis:6379/0\n' "$signal" | write_secret redis_url_signal
  printf 'redis://auth:%s@redis:6379/0\n' "$auth" | write_secret redis_url_auth
  # Before Redis 7, an ACL file may have no comments, and before 7.2 no blank lines. So it gets only
  # the rules.
  grep '^user' "$here/redis/users.acl.template" |
    sed -e "s/\\([~&]\\)sb:/\\1${prefix}sb:/g" -e "s/@SIGNAL@/$(sha256 "$signal")/" -e "s/@AUTH@/$(sha256 "$auth")/" | write_secret redis.acl
fi

if is_missing edge.key; then
  rm -f "$folder/edge.crt"
  pair=$(mktemp -d)
  trap 'rm -rf "$pair"' EXIT
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$name" \
    -addext "basicConstraints=critical,CA:FALSE" -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" -keyout "$pair/key" -out "$pair/crt" 2>/dev/null
  write_secret edge.key <"$pair/key"
  write_secret edge.crt <"$pair/crt"
fi
