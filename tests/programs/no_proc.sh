#!/bin/sh
# SPDX-License-Identifier: MIT
# Without /proc nothing can be registered: that is said by the log and by `userfault check`, and the
# launcher finds its library all the same.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires unshare jq
requires_launcher
begin

# without_proc COMMAND...: in a mount namespace where /proc is an empty folder.
without_proc() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare -r -m sh -c 'mount -t tmpfs none /proc && exec "$@"' sh "$@"
}
without_proc true 2>/dev/null || skip_all "no mount namespace is permitted"
! without_proc "$launcher" run --backend=user --log=- -- \
    "$BUILD/tests/programs/manpage_demo" 3 >output 2>&1
report "nothing can be registered" $?
expect "the log says why" 'refused to register: /proc/self/maps cannot be opened'
without_proc "$launcher" check --json >facts.json 2>output
jq -e '.backends.user == false and .facts.maps.ok == false and .features.user.mask == 0 and
    ([.advice[] | test("mount /proc")] | any)' facts.json >>output 2>&1
report "and so does check" $?
"$launcher" check --json >facts.json 2>output
jq -e '.facts.maps.ok and .backends.user' facts.json >>output 2>&1
report "with it, it does" $?
ln -s "$launcher" launcher
without_proc ./launcher run --backend=user -- true >output 2>&1
report "the launcher finds its library through a link" $?
cp "$launcher" alone
if without_proc ./alone run --backend=user -- true >output 2>&1; then
    skip "and says where it looked else" "one is installed"
else
    expect "and says where it looked else" 'without /proc it is looked for only beside'
fi
finish
