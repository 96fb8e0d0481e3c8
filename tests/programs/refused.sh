#!/bin/sh
# SPDX-License-Identifier: MIT
# Memory that the kernel or a guest touches by itself is refused, and the log says why.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires_launcher
begin

# refused CASE TEXT: the case fails as it is known to, and the log has such a line
refused() {
    check "$1 is a known difference" "$launcher" run --backend=user --log=log -- \
        "$CONFORMANCE" -f "$1*"
    if grep -q '^ok .* # SKIP' output; then
        skip "$1: the log says why" "$(sed -n 's/.* # SKIP //p' output)"
        return
    fi
    expect "$1: it is refused" '^not ok 1 .* # TODO'
    expect "$1: the log says why" "$2" log
    rm -f log
}

refused frames/altstack-on-registered 'refused on registered memory: an alternate signal stack.* at 0x'
refused frames/register-altstack 'refused to register an alternate signal stack.* at 0x'
refused frames/register-others-altstack 'refused to register an alternate signal stack.* at 0x'
refused frames/register-stack 'refused to register the stack of a thread.* at 0x'
refused frames/stack-on-registered 'refused on registered memory: the stack of a thread.* at 0x'
refused asynchronous/guest-on-registered 'refused on registered memory: memory of a KVM guest.* at 0x'
refused asynchronous/register-guests 'refused to register memory of a KVM guest.* at 0x'
refused asynchronous/uring-read 'io_uring: operations on hidden memory will fail'
finish
