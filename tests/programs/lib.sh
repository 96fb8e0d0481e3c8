# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Helpers of the tests that run whole programs. A test sources this file, calls `begin`, then
# `check` or `refute` for each of its points, then `finish`.
#
# From meson: BUILD (the build folder). Everything that a test writes goes to $dir, which is removed.

skip_all() {
    echo "1..0 # SKIP $*"
    exit 0
}

requires() {
    for command; do
        command -v "$command" >/dev/null || skip_all "$command is not installed"
    done
}

requires_launcher() {
    launcher=$BUILD/userfault
    [ -x "$launcher" ] || skip_all "the launcher is not built"
}

# cleanup runs when the test ends in whatever way; a test may define cleanup_fn for its own things.
cleanup() {
    status=$?
    trap - EXIT
    ! command -v cleanup_fn >/dev/null || cleanup_fn
    rm -rf "$dir"
    exit "$status"
}

begin() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/userfault-test.XXXXXX")
    # Programs of other users write there too.
    chmod 755 "$dir"
    trap cleanup EXIT
    trap 'exit 1' INT TERM HUP
    cd "$dir" || exit 1
    point=0
    bad=0
    # What a program under test is run by must not come from who runs the tests.
    unset LD_PRELOAD USERFAULT_BACKEND USERFAULT_POLICY USERFAULT_STATS USERFAULT_LOG
}

report() { # NAME STATUS
    point=$((point + 1))
    if [ "$2" = 0 ]; then
        echo "ok $point - $1"
    else
        echo "not ok $point - $1"
        [ ! -s "$dir/output" ] || tail -n 40 "$dir/output" | sed 's/^/# /'
        bad=1
    fi
}

skip() { # NAME REASON
    point=$((point + 1))
    echo "ok $point - $1 # SKIP $2"
}

# check NAME COMMAND...: the command succeeds. Its output is in $dir/output, and shown on failure.
check() {
    name=$1
    shift
    code=0
    "$@" >"$dir/output" 2>&1 </dev/null || code=$?
    report "$name" $code
}

# expect NAME PATTERN [FILE]: the last output (or FILE) has a line that matches.
expect() {
    code=0
    grep -Eq -- "$2" "${3:-$dir/output}" || code=1
    report "$1" $code
}

# expect_no NAME PATTERN [FILE]: it has none.
expect_no() {
    code=0
    ! grep -Eq -- "$2" "${3:-$dir/output}" || code=1
    report "$1" $code
}

finish() {
    echo "1..$point"
    exit "$bad"
}

# Can this process have the kernel's own facility?
kernel_allows() {
    "$BUILD/tests/programs/manpage_demo" 1 >/dev/null 2>&1
}

# run_user COMMAND...: on our facility, with the kernel's forbidden.
run_user() {
    "$launcher" run --backend=user --deny-kernel -- "$@"
}

# run_denied COMMAND...: under the same filter without our facility.
run_denied() {
    "$launcher" run --backend=kernel --deny-kernel -- "$@"
}

# As an ordinary user, who may not write anywhere but may read the build folder.
as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
