#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: statements.sh CONFORMANCE: that each line of statements.txt is stated by cases that exist.
set -u
conformance=$1
list=$(mktemp) || exit 1
trap 'rm -f "$list"' EXIT
"$conformance" --list >"$list" || exit 1

# missing CASES...: what is wrong with them, or nothing
missing() {
    named=
    for glob; do
        # of a glob, the regular expression; `signal()` and its kin hold nothing else that counts
        pattern=^$(printf '%s' "$glob" | sed 's/\*/[^ ]*/g')' '
        grep -q -- "$pattern" "$list" || echo "no case $glob"
        if grep -- "$pattern" "$list" | grep -q ' rst: '; then named=yes; fi
    done
    [ "$named" ] || echo "none of $* names the document"
}

number=0
bad=0
while IFS='|' read -r section statement cases; do
    case $section in
    '#'* | '') continue ;;
    esac
    number=$((number + 1))
    name="$section:$statement"
    case $cases in
    ' later')
        echo "ok $number - $name # SKIP later"
        continue
        ;;
    esac
    set -f
    # shellcheck disable=SC2086 # a list of globs
    wrong=$(missing $cases)
    set +f
    if [ -z "$wrong" ]; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        echo "$wrong" | sed 's/^/# /'
        bad=1
    fi
done <"$(dirname "$0")/statements.txt"
echo "1..$number"
exit "$bad"
