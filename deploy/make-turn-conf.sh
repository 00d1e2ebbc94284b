#!/bin/sh
# Prints turnserver.conf for a coturn that runs on this machine and not in Docker: the arguments of
# the service `turn` in docker-compose.yml, and the secrets that make-secrets.sh has made.
#   TURN_EXTERNAL_IP=203.0.113.7 deploy/make-turn-conf.sh /etc/signalbox/secrets >/etc/turnserver.conf
# docs/DEPLOYMENT.md explains the variables TURN_*.
set -eu
secrets=${1:?usage: make-turn-conf.sh FOLDER, the folder of make-secrets.sh}
: "${TURN_EXTERNAL_IP:?set TURN_EXTERNAL_IP to the address of this machine for clients}"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

# An argument may have ${NAME:-default}, which the shell replaces. The service of the system decides
# about the files for its database and process id.
arguments=$(sed -n '/^  turn:$/,/^  [a-z].*:$/s/^      - --\(.*\)$/\1/p' "$here/../docker-compose.yml" |
  grep -v -e '^userdb=' -e '^pidfile=')
eval "cat <<CONF
$arguments
CONF"
cat "$secrets/turnserver.conf"
