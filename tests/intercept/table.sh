#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: table.sh TABLE HEADER [CC-OPTION...]: that the table has each system call of the header.
# TABLE is tests/intercept/table.c, HEADER a header of the system, as in #include <HEADER>.
table=$1
header=$2
shift 2
cc=${CC:-cc}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

include="#include <$header>"
# The names, then what each of them stands for: it may be another name.
printf '%s\n' "$include" | $cc "$@" -E -dM - |
    sed -n 's/^#define __NR_\([a-z0-9_]*\) .*/\1/p' |
    grep -vx -e syscalls -e arch_specific_syscall >"$work/names" || exit 1
{
    printf '%s\n' "$include"
    sed 's/.*/@ __NR_& "&"/' "$work/names"
} | $cc "$@" -E -P - | sed -n 's/^@ \([0-9]*\) "\(.*\)"$/\1 \2/p' | sort -n >"$work/numbers" || exit 1
[ "$(wc -l <"$work/names")" = "$(wc -l <"$work/numbers")" ] || {
    echo "Bail out! a name in <$header> is no number"
    exit 1
}
"$table" <"$work/numbers"
