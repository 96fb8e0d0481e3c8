# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# What the launcher's tests add to the helpers of the program tests. PROBE and STUB come from meson.

# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"

launcher=$BUILD/userfault

begin_cli() {
    [ -x "$launcher" ] || skip_all "the launcher is not built"
    begin
    unset USERFAULT_POLICY USERFAULT_VMA_BUDGET USERFAULT_FORCE USERFAULT_DEVICE USERFAULT_DEAD_MANAGER \
        USERFAULT_GONE
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
    LC_ALL=C.UTF-8 grep -E '.{81}' "${2:-$dir/output}" >"$dir/wide" && code=1
    [ $code = 0 ] || sed 's/^/too wide: /' "$dir/wide" >>"$dir/output"
    report "$1" $code
}
