#!/bin/sh
# SPDX-License-Identifier: MIT
# examples/demand-paging on a file with a known number of lines: by thread and by handler, linked
# and under the launcher, on either backend. DEMAND_PAGING: the program.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"
launcher=$BUILD/userfault
begin

refute() { # NAME COMMAND...: the command fails, and not by a signal
    name=$1
    shift
    code=0
    "$@" >"$dir/output" 2>&1 </dev/null || code=$?
    [ $code -gt 0 ] && [ $code -lt 128 ]
    report "$name" $?
}

awk 'BEGIN { for (i = 1; i <= 20000; i++) print "line", i }' >text
pages=$((($(wc -c <text) + 4095) / 4096))

counts() { # NAME BY BACKEND COMMAND...
    name=$1 by=$2 backend=$3
    shift 3
    check "$name" "$@" text
    expect "$name: every line and page" \
        "^20000 lines, $pages of $pages pages fetched by a $by, backend $backend\$"
}

counts "thread" thread user "$DEMAND_PAGING" --backend=user
counts "handler" handler user "$DEMAND_PAGING" --handler
counts "handler under the launcher" handler user \
    "$launcher" run --backend=user --deny-kernel -- "$DEMAND_PAGING" --handler
counts "thread under the launcher" thread user \
    "$launcher" run --backend=user --deny-kernel -- "$DEMAND_PAGING"
counts "auto, the kernel's forbidden" thread user \
    "$launcher" run --deny-kernel -- "$DEMAND_PAGING"
if kernel_allows; then
    counts "thread on the kernel's" thread kernel "$DEMAND_PAGING" --backend=kernel
    counts "auto" thread kernel "$DEMAND_PAGING"
    refute "handler on the kernel's" "$DEMAND_PAGING" --backend=kernel --handler text
    expect "says why" "uf_set_handler: Operation not supported"
else
    skip "thread on the kernel's" "the kernel's userfaultfd is not permitted here"
fi
check "part of the file" "$DEMAND_PAGING" --handler --bytes=8193 text
expect "fetches no more than that" " lines, 3 of $pages pages"
: >empty
check "an empty file" "$DEMAND_PAGING" empty
refute "no such file" "$DEMAND_PAGING" nothing
finish
