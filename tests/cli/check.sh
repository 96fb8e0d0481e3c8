#!/bin/sh
# SPDX-License-Identifier: MIT
# `userfault check`: what it says is true, narrow, and the same in both forms.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
requires jq
begin_cli

facts() {
    "$launcher" check --json
}

# says NAME FILTER COMMAND...: the filter is true of the JSON that the command prints.
says() {
    name=$1
    filter=$2
    shift 2
    code=0
    "$@" >facts.json 2>output || code=$?
    jq -e "$filter" facts.json >/dev/null 2>>output || {
        jq -c '.backends, .facts[]' facts.json >>output
        code=9
    }
    [ $code -lt 2 ] # 1: neither backend is possible, which some of the tests want
    report "$name" $?
}

exits 0 "for people" "$launcher" check
narrow "is narrow enough"
expect_no "has no colour off a terminal" "$(printf '\033')"
# Others may take huge pages meanwhile.
unpooled() {
    sed 's/[0-9]* of \([0-9]* KiB\), [0-9]* free/\1/'
}
unpooled <output >lines
says "every fact has a verdict and a text" \
    '.version == 1 and (.facts | length > 15) and ([.facts[] |
    (.ok | . == true or . == false or . == null) and (.text | length > 0 and length < 51)] | all)' \
    facts
jq -r '.facts[] | .label + "|" + .text' facts.json | unpooled >pairs
code=0
while IFS='|' read -r label text; do
    grep -F -- "$label" lines | grep -qF -- "$text" || { echo "$label: $text" >>output; code=1; }
done <pairs
report "both forms say the same" $code
says "the budget is half of the limit" ".vma_budget == $(cat /proc/sys/vm/max_map_count) / 2
    - ($(cat /proc/sys/vm/max_map_count) % 2) / 2" facts

# ------------------------------------------------------------------ true
if "$PROBE" syscall 0 >/dev/null; then granted=true; else granted=false; fi
says "the system call is what a program gets" ".facts.kernel_syscall.ok == $granted" facts
if "$PROBE" syscall 1 >/dev/null; then granted=true; else granted=false; fi
says "so is user mode" ".facts.kernel_user_mode_only.ok == $granted" facts
if "$PROBE" device >/dev/null; then granted=true; else granted=false; fi
says "so is the device" ".facts.kernel_device.ok == $granted" facts
if mask=$("$PROBE" api); then
    says "so are the features" ".features.kernel.mask == $mask" facts
else
    skip "so are the features" "the kernel's facility is not granted"
fi
library=$BUILD/libuserfault-preload.so
if [ -e "$library" ]; then
    mask=$(USERFAULT_PRELOAD=$library run --backend=user "$PROBE" api)
    says "our features are what a program gets" ".features.user.mask == $mask" facts
else
    skip "our features are what a program gets" "the library is not built"
fi

says "huge pages are for the backends that announce them" '(.features.user.names |
    any(. == "MISSING_HUGETLBFS")) == (.facts.hugepages.text | test("both backends"))' facts

# ------------------------------------------------------------------ in narrower places
says "under a filter" '.facts.kernel_syscall.ok == false and .facts.kernel_device.ok == false and
    (.facts.kernel_syscall.text | test("EPERM.*seccomp")) and .backends.auto == "user" and
    ([.advice[] | test("seccomp profile")] | any)' run --deny-kernel -- "$launcher" check --json
exits 0 "for people" run --deny-kernel -- "$launcher" check
narrow "is narrow enough"
USERFAULT_PRELOAD=$dir/none.so
says "without the library" '.backends.user == false and .features.user.mask == 0 and
    ([.advice[] | test("USERFAULT_PRELOAD")] | any)' facts
export USERFAULT_PRELOAD="$STUB"
exits 1 "nothing is possible" run --deny-kernel -- env USERFAULT_PRELOAD=/none "$launcher" check
narrow "is narrow enough"
if command -v taskset >/dev/null; then
    says "on one processor" '.facts.cpus.text | test("^1:")' taskset -c 0 "$launcher" check --json
else
    skip "on one processor" "taskset is not installed"
fi
if [ "$(id -u)" != 0 ]; then
    skip "as an ordinary user" "the test is one already"
elif ! as_nobody test -x "$launcher"; then
    skip "as an ordinary user" "nobody may not read the build folder"
elif [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" != 0 ] || [ "$granted" = false ]
then
    skip "as an ordinary user" "the kernel does not tell users from root here"
else
    says "as an ordinary user" '.facts.kernel_syscall.ok == false and .facts.mem_write.ok and
        .facts.cap_sys_ptrace.ok == false and .backends.auto == "user" and
        ([.advice[] | test("vm.unprivileged_userfaultfd=1")] | any)' \
        as_nobody "$launcher" check --json
fi

# ------------------------------------------------------------------ the terminal, and errors
if command -v script >/dev/null; then
    # A private terminal, 80 columns, colours if it may.
    terminal() {
        TERM=xterm NO_COLOR=$1 script -qec "$launcher check" /dev/null
    }
    exits 0 "on a terminal" terminal ''
    expect "has colours" "$(printf '\033')\[32myes"
    exits 0 "with NO_COLOR" terminal 1
    expect_no "has none" "$(printf '\033')"
else
    skip "on a terminal" "script is not installed"
fi
exits 125 "an argument too many" "$launcher" check everything
exits 125 "no such option" "$launcher" check --xml
exits 0 "help" "$launcher" check --help
narrow "is narrow enough"
full() {
    "$launcher" check "$@" >/dev/full
}
exits 125 "a full disk" full
exits 125 "a full disk for JSON" full --json
finish
