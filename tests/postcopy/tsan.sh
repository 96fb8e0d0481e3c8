#!/bin/sh
# SPDX-License-Identifier: MIT
# Migrations with the engine under ThreadSanitizer, whole ones and such whose links break; on our
# backend with what it does in handlers of faults.
#
# usage: tsan.sh BACKEND MIGRATE CUT RECOVER TURNS
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
backend=$1 migrate=$2 cut=$3 recover=$4 turns=$5
points=0 failed=0
words=$(mktemp) || exit 1
trap 'rm -f "$words"' EXIT
export TSAN_OPTIONS="suppressions=$here/tsan.supp history_size=7 exitcode=66"

run() {
    points=$((points + 1))
    name="$(basename "$1") $2"
    # shellcheck disable=SC2086 # a list of options
    if "$1" $2 >"$words" 2>&1 && ! grep -q 'WARNING: ThreadSanitizer' "$words"; then
        echo "ok $points - $name"
        return 0
    fi
    echo "not ok $points - $name"
    grep -v '^ok' "$words" | head -n 60 | sed 's/^/# /'
    failed=1
}

"$migrate" "--backend=$backend" --mib=1 --rounds=0 >"$words" 2>&1
for reason in 'Operation not permitted' 'Function not implemented' 'unexpected memory mapping'; do
    if grep -q "$reason" "$words"; then
        echo "1..0 # SKIP $(grep -m 1 "$reason" "$words")"
        exit 0
    fi
done
for options in '--watch --rounds=4' '--watch --background=3 --rounds=4 --memory=shared' \
    '--one-socket --background=0 --rounds=4' '--mib=16 --rounds=0 --writers=8' \
    '--watch --mib=16 --background=3 --rounds=9 --bandwidth=200000000'; do
    run "$migrate" "--backend=$backend $options"
done
run "$cut" "$backend"
run "$recover" "$backend few"
run "$turns" "$backend unsignalled" # which keeps signals back in the midst of a touch
echo "1..$points"
exit $failed
