#!/bin/sh
# SPDX-License-Identifier: MIT
# examples/manager: one manager of 16 processes, which fork, move, remove and unmap their memory, and
# some of which are killed while they wait for pages; on the kernel's facility and on ours, there also
# with a manager that links the library, without the launcher and under it.
# MANAGER, MANAGER_LINKED, MONITORED: the programs; from meson.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"
requires_launcher
begin

cleanup_fn() {
    [ -z "${manager-}" ] || kill "$manager" 2>/dev/null
}

await_socket() { # PID: the manager listens, or has ended
    until [ -S sock ] || ! kill -0 "$1" 2>/dev/null; do :; done
}

# together HOW HOW-MANAGER MANAGER ARGUMENTS: 16 processes and their manager, and what runs them
together() {
    how=$1 how_manager=$2 program=$3
    shift 3
    rm -f sock ./out.*
    $how_manager "$program" --processes=16 "$@" sock >manager.out 2>&1 </dev/null &
    manager=$!
    await_socket $manager
    pids=
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        die=
        [ $((n % 4)) -ne 0 ] || die=--die
        # shellcheck disable=SC2086
        $how "$MONITORED" "$@" $die sock >out.$n 2>&1 </dev/null &
        pids="$pids $n:$!"
    done
    wrong=
    for pid in $pids; do
        code=0
        wait "${pid#*:}" || code=$?
        want=0
        [ $((${pid%:*} % 4)) -ne 0 ] || want=137
        [ $code = $want ] || wrong="$wrong ${pid%:*}:$code"
    done
    wait $manager
    code=$?
    manager=
    cat manager.out out.* >output
    echo "wrong:$wrong" >>output
    [ $code = 0 ] && [ -z "$wrong" ] && [ ! -e sock ]
}

plain() {
    "$@"
}

dd if=/dev/urandom of=content bs=4096 count=200 2>/dev/null # and zeroes beyond its end
how_many() { # NAME
    expect "$1: twelve found every page right" "^all pages were right"
    [ "$(grep -c '^all pages were right' output)" = 12 ]
    report "$1: all of them" $?
    expect "$1: it saw all of them" "^16 processes, .* faults"
}

each() { # NAME HOW HOW-MANAGER MANAGER
    together "$2" "$3" "$4"
    report "$1" $?
    how_many "$1"
    if grep -q "also a child's" output; then
        expect "$1: their children, too" "^16 processes, 12 forked"
    else
        skip "$1: their children, too" "no events of fork here"
    fi
    together "$2" "$3" "$4" --content="$dir/content"
    report "$1, content from a file" $?
    how_many "$1, content from a file"
}

# shellcheck disable=SC2153 # the programs, not the processes
each "ours" run_user run_user "$MANAGER"
each "ours, the manager links the library" run_user plain "$MANAGER_LINKED"
each "ours, it links the library and is run under it" run_user run_user "$MANAGER_LINKED"
if kernel_allows; then
    each "the kernel's" plain plain "$MANAGER"
else
    skip "the kernel's" "the kernel's userfaultfd is not permitted here"
fi
finish
