#!/bin/sh
# SPDX-License-Identifier: MIT
# That the kernel granted no userfaultfd, as strace saw it: neither by the system call nor by the
# ioctl on /dev/userfaultfd. The same look at a run on the kernel's facility shows that it would
# have been seen.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires strace stress-ng
requires_launcher
begin
strace -qq -o trace true 2>/dev/null || skip_all "strace may not trace here"

demo=$BUILD/tests/programs/manpage_demo
granted='(userfaultfd\(|0xaa, 0\b|USERFAULTFD_IOC_NEW|0xaa00).* = [0-9]+'

watch() { # COMMAND...
    strace -f -qq --seccomp-bpf -e trace=userfaultfd,ioctl,execve -e signal=none -o trace "$@"
}

if kernel_allows; then
    check "the kernel's own facility, traced" watch "$demo" 3
    expect "a grant is seen in the trace" "$granted" trace
else
    skip "a grant is seen in the trace" "the kernel's userfaultfd is not permitted here"
fi

check "the demonstration on ours, traced" watch "$launcher" run --backend=user -- "$demo" 3
expect "the trace followed it" 'execve\(.*manpage_demo.* = 0$' trace
expect_no "nothing was granted, though nothing was forbidden" "$granted" trace

check "stress-ng on ours, the kernel's forbidden, traced" \
    watch "$launcher" run --backend=user --deny-kernel -- \
    stress-ng --userfaultfd 1 --verify --metrics-brief --temp-path "$dir" -t 1
expect "it counted operations" 'userfaultfd +[1-9][0-9]* '
expect "the trace followed it" 'execve\(.*stress-ng.* = 0$' trace
expect_no "nothing was granted" "$granted" trace

finish
