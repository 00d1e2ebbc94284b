#!/bin/sh
# Searches the debug logs of all servers that the tests started for text that must never be logged.
#   tests/hygiene.sh DIR
set -eu
dir=${1:?which folder}

files=$(find "$dir" -type f -size +0 | wc -l)
if [ "$files" -eq 0 ]; then
  echo "no logs in $dir: run the steps cargo-test, edge or browser before this one"
  exit 1
fi

# eyJ is the beginning of a JWT. The others are tokens and handles in queries, candidates and SDP,
# both plain and as Debug or JSON would print them.
found=0
for mark in 'eyJ' 'token=' 'resume=' 'a=candidate' 'candidate:' 'v=0' 'a=fingerprint' 'a=ice-pwd' 'Basic [A-Za-z0-9+/=]\{8,\}' 'Bearer [A-Za-z0-9]'; do
  if hits=$(grep -r -a -n -e "$mark" "$dir"); then
    found=1
    echo "found '$mark' in $(printf '%s\n' "$hits" | wc -l) lines, the first of them:"
    printf '%s\n' "$hits" | head -3 | cut -c1-300
  fi
done
[ "$found" -eq 0 ] || exit 1
echo "$files logs, $(find "$dir" -type f -exec cat {} + | wc -l) lines: no token, no key, no SDP, no candidate"
