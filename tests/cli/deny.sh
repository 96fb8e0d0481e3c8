#!/bin/sh
# SPDX-License-Identifier: MIT
# --deny-kernel: what the kernel would grant it grants no longer, and nothing else changes.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

denied() {
    run --backend=kernel --deny-kernel "$@"
}

if "$PROBE" syscall 1 >/dev/null; then
    exits 0 "granted without the option" run --backend=kernel "$PROBE" syscall 1
else
    skip "granted without the option" "this host does not grant it"
fi
for flags in 0 1; do
    exits 1 "denied with it, flags $flags" denied "$PROBE" syscall $flags
    expect "with EPERM" '^EPERM$'
done
exits 1 "the device's ioctl" denied "$PROBE" device
expect "with EPERM" '^EPERM$'
exits 1 "with a bit above those that the kernel looks at" denied "$PROBE" device-high
expect "with EPERM" '^EPERM$'
exits 1 "another ioctl of the device" denied "$PROBE" ioctl
expect_no "is let through" '^EPERM$'
# shellcheck disable=SC2016
exits 1 "in what the program starts" denied sh -c '"$1" syscall 1' sh "$PROBE"
expect "with EPERM" '^EPERM$'
exits 1 "with statistics" denied --stats "$PROBE" syscall 1
expect "with EPERM" '^EPERM$'

if [ "$(id -u)" = 0 ]; then
    exits 0 "root keeps the right to gain rights" \
        denied grep -q '^NoNewPrivs:.*0' /proc/self/status
    if as_nobody test -x "$PROBE"; then
        exits 1 "an ordinary user can forbid it as well" as_nobody "$launcher" run --deny-kernel \
            -- "$PROBE" syscall 1
        expect "with EPERM" '^EPERM$'
        exits 0 "and gives up gaining rights for it" as_nobody "$launcher" run --deny-kernel -- \
            grep -q '^NoNewPrivs:.*1' /proc/self/status
    else
        skip "an ordinary user can forbid it as well" "nobody may not read the build folder"
    fi
else
    exits 0 "an ordinary user gives up gaining rights" \
        denied grep -q '^NoNewPrivs:.*1' /proc/self/status
fi
finish
