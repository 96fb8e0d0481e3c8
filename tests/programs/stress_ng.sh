#!/bin/sh
# SPDX-License-Identifier: MIT
# Debian's stress-ng, unmodified: passes on our facility with the kernel's forbidden, does not under
# the same filter alone, and never had a userfaultfd from the kernel.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires stress-ng
requires_launcher
begin

# Its exit status is 0 even when it skipped everything: what it says decides.
stress() { # COMMAND...
    "$@" stress-ng --userfaultfd 2 --verify --metrics-brief --temp-path "$dir" -t 1
}

ran='userfaultfd +[1-9][0-9]* '
complaint='fail:|error:|skipped|No stress workers'

check "runs on ours, the kernel's forbidden" stress run_user
expect "it counted operations" "$ran"
expect "it called the run successful" 'successful run completed'
expect_no "it verified without a complaint" "$complaint"

stress run_denied >output 2>&1
expect "under the same filter without ours it complains" "$complaint|unsuccessful"
expect_no "and does nothing" "$ran"

if [ "$(id -u)" = 0 ]; then
    if as_nobody test -x "$launcher"; then
        chmod 777 "$dir"
        nobody_user() { as_nobody "$launcher" run --backend=user --deny-kernel -- "$@"; }
        check "runs on ours as an ordinary user" stress nobody_user
        expect "it counted operations" "$ran"
        expect_no "it verified without a complaint" "$complaint"
    else
        skip "as an ordinary user" "nobody cannot reach the build folder"
    fi
fi

finish
