#!/bin/sh
# SPDX-License-Identifier: MIT
# Variables that were set by hand to what the launcher would have refused: said, and on the safe side.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

library=$BUILD/libuserfault-preload.so
[ -e "$library" ] || skip_all "the library is not built"

# by_hand COMMAND...: with the library, and without the launcher.
by_hand() {
    LD_PRELOAD=$library "$@"
}

# told NAME VALUE INSTEAD: on standard error and in the log, once a process.
told() {
    line="userfault: $1=$2: $3"
    rm -f log
    exits 0 "$1=$2" by_hand env "USERFAULT_LOG=$dir/log" "$1=$2" "$PROBE" syscall 1
    [ "$(grep -cxF -- "$line" output)" = 1 ] && [ "$(grep -cxF -- "$line" log)" = 1 ]
    report "is told" $?
}

export USERFAULT_BACKEND=user
told USERFAULT_BACKEND usr 'not auto, kernel or user; taken for auto'
told USERFAULT_POLICY kernal 'not open or kernel; taken for kernel'
told USERFAULT_TRAP some 'not libc or all; taken for libc'
for value in 0 12x -1; do
    told USERFAULT_VMA_BUDGET $value 'not a number of mappings; left aside'
done
for value in 0660 0660:0 9:0:0 0660:0:kvm 0660:0:0:0 0660,0,0; do
    told USERFAULT_DEVICE $value 'not MODE:UID:GID in numbers; taken for 0000:0:0'
done
for value in none wait: wait:x sigbus:1; do
    told USERFAULT_DEAD_MANAGER $value 'not zero, sigbus or wait[:SECONDS]; left aside'
done
told USERFAULT_GONE ENOSPC 'not esrch or enospc; taken for esrch'
for right in USERFAULT_GONE=enospc USERFAULT_BACKEND=user USERFAULT_POLICY=open USERFAULT_POLICY= USERFAULT_DEVICE=0660:0:107 \
    USERFAULT_VMA_BUDGET=4000 USERFAULT_TRAP=libc USERFAULT_DEAD_MANAGER=wait:5; do
    exits 0 "$right" by_hand env "$right" "$PROBE" syscall 1
    expect_no "is nothing to be told" '^userfault:'
done

if [ "$(id -u)" != 0 ]; then
    skip "a policy that does not exist" "takes root, to become somebody else"
elif [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ]; then
    skip "a policy that does not exist" "vm.unprivileged_userfaultfd is 1"
elif ! as_nobody test -x "$PROBE"; then
    skip "a policy that does not exist" "nobody may not read the build folder"
else
    exits 0 "the policy open" as_nobody env LD_PRELOAD="$library" USERFAULT_POLICY=open \
        "$PROBE" syscall 0
    for policy in kernel kernal; do
        exits 1 "the policy $policy" as_nobody env LD_PRELOAD="$library" USERFAULT_POLICY=$policy \
            "$PROBE" syscall 0
    done
    exits 1 "a device that cannot be read is nobody's" as_nobody env LD_PRELOAD="$library" \
        USERFAULT_POLICY=kernel USERFAULT_DEVICE=0666 "$PROBE" device
    exits 0 "one that can is" as_nobody env LD_PRELOAD="$library" \
        USERFAULT_POLICY=kernel USERFAULT_DEVICE=0666:0:0 "$PROBE" device
fi
finish
