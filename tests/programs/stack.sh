#!/bin/sh
# SPDX-License-Identifier: MIT
# A stack in use is refused, and the log says why.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires_launcher
begin
check "a stack in use is refused" "$launcher" run --backend=user --log=log -- \
    "$CONFORMANCE" -f register/live-stack
expect "the case ran" '^ok 1 - register/live-stack'
expect "the log says why" 'refused to register the stack of the calling thread, .*: sp 0x' log
check "so is what is above and below" "$launcher" run --backend=user --log=log-below -- \
    "$CONFORMANCE" -f 'frames/*-stack'
expect "the cases ran" '^ok .* frames/main-stack'
expect "the log says why" 'refused to register the stack of the calling thread, .*: sp 0x' log-below
finish
