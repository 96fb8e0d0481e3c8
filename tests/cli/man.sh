#!/bin/sh
# SPDX-License-Identifier: MIT
# The man pages: no formatter complains, and they name every option and variable that there is.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

quiet() { # COMMAND...: succeeds without a word
    "$@" >words 2>&1
    cat words
    [ ! -s words ]
}

# man(1) reports through groff; where it reports warnings it still ends with 0.
man_warnings() {
    LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 "$1" 2>&1 >/dev/null | cat
}

lint() {
    page=$SOURCE/man/$1
    if command -v groff >/dev/null; then
        exits 0 "$1: groff" quiet groff -t -mandoc -ww -z -Tutf8 "$page"
    else
        skip "$1: groff" "groff is not installed"
    fi
    if command -v mandoc >/dev/null; then
        exits 0 "$1: mandoc" quiet mandoc -T lint -W warning "$page"
    else
        skip "$1: mandoc" "mandoc is not installed"
    fi
    if ! command -v man >/dev/null; then
        skip "$1: man" "man is not installed"
        return
    fi
    exits 0 "$1: man" quiet man_warnings "$page"
    MANWIDTH=80 LC_ALL=C.UTF-8 man -l "$page" 2>err | sed 's/.\x08//g' >"$1"
    test -s "$1"
    report "$1: is formatted" $?
    narrow "$1: is narrow enough" "$1"
}

lint userfault.1
lint userfault-memcp.1
lint userfault.7

# In the source `--' is `Fl Fl', and a name may be followed by a value.
documents() { # NAME PATTERN
    grep -Eq -- "$2" "$SOURCE/man/${page:=userfault.1}"
    report "$page documents $1" $?
}

for command in run check memcp; do
    page=userfault.1
    [ $command != memcp ] || page=userfault-memcp.1
    [ $command != memcp ] || [ -x "$BUILD/userfault-memcp" ] || continue
    for option in $("$launcher" $command --help | grep -o '^ .*--[a-z-]*' | sed 's/.*--//'); do
        case $option in
        usage) ;;
        help | version) documents "--$option" "Fl Fl $option( |\$)" ;;
        *) documents "--$option" "^\.It Fl Fl $option( |\$)" ;;
        esac
    done
done
page=userfault.1
for word in $("$launcher" run --help | tr -d '\n' | sed 's/.*do without: \([a-z, ]*\)  .*/\1/; s/,//g'); do
    case $word in
    no*) documents "--force=$word" "^\.It Cm $word\$" ;;
    esac
done
for variable in $(grep -rhoE '"USERFAULT_[A-Z_]+"' "$SOURCE/src/start" "$SOURCE/src/cli"/*.c |
    tr -d '"' | sort -u); do
    documents "$variable" "^\.It Ev $variable\$"
done
finish
