#!/bin/sh
# Prints the configuration of the edge for an nginx that runs on this machine and not in Docker.
#   deploy/make-edge-conf.sh --name rtc.example.com >/etc/nginx/conf.d/signalbox.conf
# Every variable EDGE_* of nginx/edge.conf.template may be set in the environment; docs/DEPLOYMENT.md
# explains them. The defaults are for one process `signalbox` on 127.0.0.1:8080.
set -eu

name=
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=${2:?--name needs the host name of the site}; shift 2 ;;
    *) echo "usage: make-edge-conf.sh --name HOST" >&2; exit 2 ;;
  esac
done
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

export EDGE_NAMES="${EDGE_NAMES:-${name:?--name is missing}}"
export EDGE_HTTP_LISTEN="${EDGE_HTTP_LISTEN:-80}"
export EDGE_HTTPS_LISTEN="${EDGE_HTTPS_LISTEN:-443}"
export EDGE_CERT="${EDGE_CERT:-/etc/signalbox/secrets/edge.crt}"
export EDGE_KEY="${EDGE_KEY:-/etc/signalbox/secrets/edge.key}"
export EDGE_ACCESS_LOG="${EDGE_ACCESS_LOG:-/var/log/nginx/signalbox.log}"
export EDGE_PAGE="${EDGE_PAGE:-/var/lib/signalbox/pages}"
export EDGE_CLIENT="${EDGE_CLIENT:-$EDGE_PAGE/client}"
export EDGE_SIGNAL_SERVERS="${EDGE_SIGNAL_SERVERS:-server 127.0.0.1:8080 max_fails=0;}"
export EDGE_AUTH_SERVERS="${EDGE_AUTH_SERVERS:-server 127.0.0.1:8080 max_fails=0;}"
export EDGE_WS_PER_MINUTE="${EDGE_WS_PER_MINUTE:-300}"
export EDGE_WS_BURST="${EDGE_WS_BURST:-100}"
export EDGE_RESUMES_PER_MINUTE="${EDGE_RESUMES_PER_MINUTE:-6000}"
export EDGE_RESUMES_BURST="${EDGE_RESUMES_BURST:-2000}"
export EDGE_AUTH_PER_MINUTE="${EDGE_AUTH_PER_MINUTE:-60}"
export EDGE_AUTH_BURST="${EDGE_AUTH_BURST:-30}"
export EDGE_SOCKETS_PER_CLIENT="${EDGE_SOCKETS_PER_CLIENT:-500}"

# In the container, nginx.conf has these lines.
echo 'charset utf-8;'
echo 'charset_types text/css text/javascript application/javascript application/typescript application/json;'
# Only these variables are replaced. The $variables of nginx stay.
names=$(grep -o '\${EDGE_[A-Z_]*}' "$here/nginx/edge.conf.template" | sort -u | tr '\n' ' ')
envsubst "$names" <"$here/nginx/edge.conf.template"
