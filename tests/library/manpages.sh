#!/bin/sh
# SPDX-License-Identifier: MIT
# man/uf_*.3: a page for each function that is exported, no complaint from a formatter, and examples
# that compile without a warning and run. From meson: SOURCE, BUILD, CC.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"
blocks=$(cd "$(dirname "$0")" && pwd)/blocks.py
begin

sed -n 's/^ *\(uf_[a-z_]*\);$/\1/p' "$SOURCE/src/lib/libuserfault.map" >functions
[ -s functions ]
report "the map names functions" $?

while read -r function; do
    page=$SOURCE/man/$function.3
    check "$function: has a page" grep -qx "\\.Nm $function" "$page"
    check "$function: the page declares it" grep -q "^\\.Fn $function" "$page"
    check "$function: the header declares it" \
        grep -Eq "\\b$function\\(" "$SOURCE/include/userfault/userfault.h"
    if command -v groff >/dev/null; then
        check "$function: groff" groff -t -mandoc -ww -z -Tutf8 "$page"
        [ ! -s "$dir/output" ]
        report "$function: groff is silent" $?
    fi
    if command -v mandoc >/dev/null; then
        check "$function: mandoc" mandoc -T lint -W warning "$page"
    fi
    if command -v man >/dev/null; then
        MANWIDTH=80 LC_ALL=C.UTF-8 man -l "$page" 2>err | sed 's/.\x08//g' >"$function.txt"
        check "$function: no line is too wide" env LC_ALL=C.UTF-8 \
            awk 'length > 80 { print; bad = 1 } END { exit bad }' "$function.txt"
    fi
    "$blocks" "$page" >"$function.c" # the only one
    # shellcheck disable=SC2086 # the compiler is words
    check "$function: the example compiles" $CC -Wall -Wextra -Wno-unused-parameter -Werror -O2 \
        -D_GNU_SOURCE -I"$SOURCE/include" -o "$function" "$function.c" \
        -L"$BUILD" -luserfault -Wl,-rpath,"$BUILD" -pthread
    check "$function: the example runs" env USERFAULT_BACKEND=user "./$function"
    check "$function: the example runs under the launcher" \
        "$BUILD/userfault" run --backend=user -- "./$function"
done <functions
finish
