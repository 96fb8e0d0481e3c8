#!/bin/sh
# SPDX-License-Identifier: MIT
# Looks for more inputs than those that are kept, for a moment or for SECONDS. What ends the target
# is left in the working folder.
#
# usage: more.sh FUZZER CORPUS [SECONDS]
set -u
fuzzer=$1 corpus=$2 seconds=${3-}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
name=$(basename "$fuzzer")

if [ -z "$seconds" ]; then
    # libFuzzer's own status for a find is 77, which would count as skipped
    "$fuzzer" -runs=2000 -seed=1 -max_len=200 -timeout=20 -artifact_prefix="$name-" "$dir" "$corpus" || exit 1
    exit 0
fi
echo "$name: for $seconds seconds"
"$fuzzer" -max_total_time="$seconds" -max_len=400 -timeout=20 -print_final_stats=1 \
    -artifact_prefix="$name-" "$dir" "$corpus" >"$dir.log" 2>&1
code=$?
grep -E '^(stat::number_of_executed|Done|SUMMARY|artifact|Test unit|tests/)' "$dir.log"
[ $code -eq 0 ] || tail -n 60 "$dir.log"
rm -f "$dir.log"
exit $code
