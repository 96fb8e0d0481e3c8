#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: registers.sh ARCHIVE [FUNCTION...]: that its code leaves the vector registers as they are:
# it names none, and calls no function from elsewhere but these.
archive=$1
shift
calls=$(readelf -W -r "$archive" | awk '$3 == "R_X86_64_PLT32" { print $5 }' | sort -u)

echo 1..2
if objdump -d "$archive" | grep -E '%([xyz]?mm[0-9]|st\b|k[0-7]\b)'; then
    echo 'not ok 1 - no vector register'
else
    echo 'ok 1 - no vector register'
fi
for call in $calls; do
    case " $* $(nm --defined-only "$archive" | sed 's/.* //' | tr '\n' ' ') " in
    *" $call "*) ;;
    *) others="$others $call" ;;
    esac
done
if [ -n "$calls" ] && [ -z "$others" ]; then
    echo 'ok 2 - no call that might use one'
else
    echo "not ok 2 - no call that might use one:${others:- there are none at all}"
fi
