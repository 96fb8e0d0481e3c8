#!/bin/sh
# SPDX-License-Identifier: MIT
# --log: a line for what is refused, with the reason.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires prlimit
requires_launcher
begin

# logged CASE PATTERN: of the suite's case, which passes.
logged() {
    rm -f log
    check "$1" "$launcher" run --backend=user --log=log -- "$CONFORMANCE" -f "$1"
    expect "ran" '^ok '
    expect "says why" "$2" log
}
logged register/sysv 'refused to register a System V segment of small pages.*: at 0x'
logged api/unknown-features 'UFFDIO_API refused: of the features asked for there are none of 0x'
logged api/bad-version 'UFFDIO_API refused: there is no such version: 0x'

! prlimit --nofile=8 "$launcher" run --backend=user --log=log-fds -- \
    "$BUILD/tests/programs/manpage_demo" 1 >output 2>&1
report "few descriptors are too few" $?
expect "says what it takes" 'refused a context: no descriptor is left .* takes five for itself' log-fds
! prlimit --as=62914560 "$launcher" run --backend=user --log=log-as -- \
    "$BUILD/tests/programs/manpage_demo" 1 >output 2>&1
report "few addresses are too few" $?
expect "says how many it takes" 'refused a context: no memory for .* 66 MiB' log-as
finish
