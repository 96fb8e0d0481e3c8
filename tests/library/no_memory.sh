#!/bin/sh
# SPDX-License-Identifier: MIT
# Too little address space for the facility's tables: contexts are refused, the program goes on.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"
begin

narrow() { # COMMAND...: with room for a program and its libraries, little more
    # shellcheck disable=SC3045 # dash and bash have it
    (ulimit -v 30000 && exec "$@") >"$dir/output" 2>&1 </dev/null
    code=$?
    [ $code -gt 0 ] && [ $code -lt 128 ]
}

echo text >text
narrow "$DEMAND_PAGING" --handler text
report "linked: fails, and not by a signal" $?
expect "linked: says why" "no userfaultfd: Cannot allocate memory"
narrow env LD_PRELOAD="$BUILD/libuserfault-preload.so" USERFAULT_BACKEND=user \
    "$BUILD/tests/programs/manpage_demo" 1
report "preloaded: fails, and not by a signal" $?
finish
