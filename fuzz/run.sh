#!/usr/bin/env bash
# Runs the fuzz targets, one after the other.
#   fuzz/run.sh SECONDS [TARGET...]      SECONDS for each target; without names, all targets
# The exit code is 1 if a target found a defect. Its input is then in fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=${1:?how many seconds for each target}
shift
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(basename -s .rs -a fuzz_targets/*.rs)

# Coverage needs flags that the stable compiler accepts only with this variable. A sanitizer is not
# needed, because the project has no unsafe code.
export RUSTC_BOOTSTRAP=1
fuzz=(cargo fuzz)
build=(--sanitizer none)

"${fuzz[@]}" build "${build[@]}"
failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  log=$(mktemp)
  # New inputs go into corpus/, which is not in the repository. seeds/ is only read.
  if "${fuzz[@]}" run "${build[@]}" "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=5 -dict=sdp.dict >"$log" 2>&1; then
    echo "$target: $(grep -m1 '^Done' "$log" || tail -1 "$log")"
  else
    failed=1
    echo "$target: FAILED"
    grep -a -A2 panicked "$log" || true
    tail -15 "$log" | cut -c1-400
  fi
  rm -f "$log"
done
exit "$failed"
