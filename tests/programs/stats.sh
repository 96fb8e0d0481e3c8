#!/bin/sh
# SPDX-License-Identifier: MIT
# What --stats counts of a program whose every fault is known: the demonstration of userfaultfd(2).
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires python3
requires_launcher
begin

demo=$BUILD/tests/programs/manpage_demo
check "runs with statistics" "$launcher" run --backend=user --deny-kernel --stats=stats.json -- \
    "$demo" 25
expect_no "the facility was loaded" 'without having loaded'

# value KEY...: where the JSON has it.
value() {
    python3 -c '
import json, sys
node = json.load(open(sys.argv[1]))
for key in sys.argv[2:]:
    node = node[key]
print(node)' stats.json "$@"
}

is() { # WANTED KEY...
    wanted=$1
    shift
    got=$(value "$@" 2>&1)
    [ "$got" = "$wanted" ]
    code=$?
    [ $code = 0 ] || echo "# $got, not $wanted"
    report "$* is $wanted" $code
}

# Not the copies: the program may end before the thread that made the last one has counted it.
is 1 processes
is 1 contexts user
is 0 contexts kernel
is 25 faults missing_read
is 0 faults missing_write
is 25 messages read

# 600 pages that nobody waits for, one by one: all but the first of 2 MiB and the last of each row.
check "runs COPYs in a row" "$launcher" run --backend=user --deny-kernel --stats=stats.json -- \
    "$BUILD/tests/conformance/conformance" -f rows/read:anon
[ "$(value copy left)" -gt 500 ]
report "most pages are left closed for a while" $?

# 600 pages out of a buffer of seven: the first of each is written with the six that follow.
check "runs COPYs out of a buffer" "$launcher" run --backend=user --deny-kernel --stats=stats.json -- \
    "$BUILD/tests/conformance/conformance" -f stream/read:anon
if [ "$(uname -m)" = x86_64 ]; then
    [ "$(value copy ahead)" -gt 450 ]
    report "most pages are in place when they are copied" $?
fi
finish
