#!/bin/sh
# SPDX-License-Identifier: MIT
# The demonstration of userfaultfd(2), natively and on our facility.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

demo=$BUILD/tests/programs/manpage_demo
requires_launcher
begin

if kernel_allows; then
    check "on the kernel's facility" "$demo" 25
    expect "the kernel served each page once" '^25 pages, 25 faults, 0 wrong bytes$'
else
    skip "on the kernel's facility" "the kernel's userfaultfd is not permitted here"
fi

check "on ours, the kernel's forbidden" run_user "$demo" 25
expect "ours served each page once" '^25 pages, 25 faults, 0 wrong bytes$'
expect "poll said POLLIN and nothing else" 'poll: 1 ready; POLLIN = 1; POLLERR = 0$'
expect_no "no message carried a flag" 'page fault: flags = [^0]'

check "many pages" run_user "$demo" 2000
expect "all of them" '^2000 pages, 2000 faults, 0 wrong bytes$'

code=0
run_denied "$demo" 3 >output 2>&1 || code=$?
[ $code -eq 1 ]
report "under the same filter without ours it fails" $?
expect "with EPERM" 'userfaultfd: Operation not permitted$'

finish
