# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# What the launcher's tests add to the helpers of the program tests. PROBE and STUB come from meson.

# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"

launcher=$BUILD/userfault

begin_cli() {
    [ -x "$launcher" ] || skip_all "the launcher is not built"
    begin
    unset USERFAULT_POLICY USERFAULT_VMA_BUDGET USERFAULT_FORCE USERFAULT_DEVICE
    # The launcher hands over the same to whatever library there is.
    export USERFAULT_PRELOAD="$STUB"
}

# exits CODE NAME COMMAND...: the command ends with the status. Its output is in $dir/output.
exits() {
    want=$1
    name=$2
    shift 2
    code=0
    "$@" >"$dir/output" 2>&1 </dev/null || code=$?
    [ "$code" = "$want" ] || echo "exit status $code, not $want" >>"$dir/output"
    [ "$code" = "$want" ]
    report "$name" $?
}

run() {
    "$launcher" run "$@"
}

# narrow NAME [FILE]: no line of the last output has more than 80 columns.
narrow() {
    code=0
    LC_ALL=C.UTF-8 awk 'length($0) > 80 { print "too wide: " $0; bad = 1 } END { exit bad }' \
        "${2:-$dir/output}" >"$dir/wide" || code=1
    [ $code = 0 ] || cat "$dir/wide" >>"$dir/output"
    report "$1" $code
}
