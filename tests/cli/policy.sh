#!/bin/sh
# SPDX-License-Identifier: MIT
# --policy=kernel grants exactly what the kernel does: to all kinds of users, its own facility and
# a real device of it, with several owners and modes, are compared with ours.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

library=$BUILD/libuserfault-preload.so
[ -e "$library" ] || skip_all "the library is not built"
[ "$(id -u)" = 0 ] || skip_all "takes root"
minor=$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc 2>/dev/null)
[ -n "$minor" ] || skip_all "the kernel has no /dev/userfaultfd"
mknod node c 10 "$minor" 2>/dev/null || skip_all "mknod(1) is forbidden"
chmod 600 node
(: <node) 2>/dev/null || skip_all "no device may be opened in $dir"
[ "$("$PROBE" syscall 0)" ] || skip_all "the kernel's facility is not granted"
export USERFAULT_PRELOAD="$library"

# Whose ids have no name in the namespace, of them only the kernel knows them: there ours may refuse
# more, and grants nothing that the kernel does not.
unnamed() {
    grep unnamed kernels | tr ' ' '\n' >kernels-words
    grep unnamed ours | tr ' ' '\n' >ours-words
    paste -d ' ' kernels-words ours-words | awk '$2 ~ /granted/ && $1 != $2 { print; bad = 1 }
        END { exit bad || NR == 0 }'
}

# same MODE OWNER GROUP: whoever asks, in whatever way, gets the kernel's answer.
same() {
    chown "$2:$3" node
    chmod "$1" node
    code=0
    "$POLICY" node "$2" "$3" >kernels 2>&1 || code=$?
    [ $code = 0 ] || { skip "$*" "$(tail -n 1 kernels)"; return; }
    run --backend=user --policy=kernel "--device=$1:$2:$3" -- \
        "$POLICY" /dev/userfaultfd "$2" "$3" >ours 2>&1 || code=$?
    unnamed >output || code=1
    for file in kernels ours; do
        grep -v unnamed $file >$file-named
    done
    diff kernels-named ours-named >>output || code=1
    report "mode $1, user $2, group $3" $code
}

same 0600 0 0
same 0660 0 107
same 0640 0 107
same 0420 107 108
same 0060 107 108
same 0006 107 108
same 0604 107 108
same 0000 0 0
same 0666 4000000000 4000000001
finish
