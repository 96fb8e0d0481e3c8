#!/bin/sh
# SPDX-License-Identifier: MIT
# Every option: what reaches the program, and what is refused.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

# handed NAME LINE OPTION...: the program finds the line in its environment.
handed() {
    name=$1
    line=$2
    shift 2
    rm -f env
    STUB_SHOW=$dir/env run "$@" -- true >output 2>&1
    grep -qxF -- "$line" env
    report "$name" $?
}

usage() { # NAME OPTION...
    name=$1
    shift
    exits 125 "$name" run "$@" -- true
}

handed "backend auto" USERFAULT_BACKEND=auto --backend=auto
handed "backend kernel" USERFAULT_BACKEND=kernel --backend=kernel
handed "backend user, in two words" USERFAULT_BACKEND=user --backend user
usage "no other backend" --backend=mine
handed "policy open" USERFAULT_POLICY=open --policy=open
handed "policy kernel" USERFAULT_POLICY=kernel --policy=kernel
usage "no other policy" --policy=
usage "no policy of another name" --policy=foo
expect "says which there are" "--policy=foo: not open or kernel"
usage "no backend of another name" --backend=foo
expect "says which there are" "--backend=foo: not auto, kernel or user"

handed "log to stderr" USERFAULT_LOG=- --log=-
handed "the log's path is made absolute" "USERFAULT_LOG=$(pwd -P)/log" --log=log
test -f log
report "the log is created" $?
usage "a log in a folder that does not exist" --log=none/log
expect "and says why" 'none/log.*No such file'

handed "VMA budget" USERFAULT_VMA_BUDGET=4000 --vma-budget=4000
for value in 0 -1 '' 12x 99999999999999999999; do
    usage "no VMA budget of '$value'" "--vma-budget=$value"
done
for value in zero sigbus wait wait:0 wait:30; do
    handed "dead manager: $value" USERFAULT_DEAD_MANAGER=$value --dead-manager=$value
done
for value in '' none wait: wait:x zero:3 wait:-1 wait:1000001; do
    usage "no dead manager of '$value'" "--dead-manager=$value"
done
for value in esrch enospc; do
    handed "gone: $value" USERFAULT_GONE=$value --gone=$value
done
for value in '' eperm esrch,enospc; do
    usage "no gone of '$value'" "--gone=$value"
done
handed "forced degradations" USERFAULT_FORCE=noguard,nomem,nocachestat,nospin,noscan,noprocmap,noadvice,nopatience,nostage,stage \
    --force=noguard,nomem,nocachestat,nospin,noscan,noprocmap,noadvice,nopatience,nostage,stage
for value in '' no noguard,,nomem 'noguard,'; do
    usage "no forced '$value'" "--force=$value"
done
handed "device in numbers" USERFAULT_DEVICE=0600:0:107 --policy=kernel --device=600:0:107
handed "device in names" USERFAULT_DEVICE=0660:0:0 --device=0660:root:root --policy=kernel
for value in '' 0600 0600:0 0600:0: 0800:0:0 1777:0:0 0600:nobody-knows:0 0600:0:0:0; do
    usage "no device '$value'" --policy=kernel "--device=$value"
done
usage "no device of a group that is not known" --policy=kernel --device=0660:root:no-such-group
expect "says which" "there is no group .no-such-group"
usage "no device of a user who is not known" --policy=kernel --device=0660:no-such-user:root
expect "says who" "there is no user .no-such-user"
usage "statistics in a file without a name" --stats=
expect "says so" "--stats=: which file"
usage "a device without the policy that looks at it" --device=0600:0:0

handed "the library is preloaded" "LD_PRELOAD=$STUB"
libm=$(ldd "$(command -v awk)" | sed -n 's/.*=> \(.*libm.*\) (.*/\1/p' | head -n 1)
if [ -n "$libm" ]; then
    export LD_PRELOAD="$libm"
    handed "before what was preloaded already" "LD_PRELOAD=$STUB:$libm"
    unset LD_PRELOAD
else
    skip "before what was preloaded already" "no second library at hand"
fi
STUB_SHOW=$dir/env run -- "$launcher" run -- true
grep -qx "LD_PRELOAD=$STUB" env
report "once only when runs are nested" $?
USERFAULT_BACKEND=user
export USERFAULT_BACKEND
handed "what the environment says stays" USERFAULT_BACKEND=user
handed "an option comes before it" USERFAULT_BACKEND=kernel --backend=kernel
unset USERFAULT_BACKEND

cp "$STUB" "$dir/a b.so"
USERFAULT_PRELOAD="$dir/a b.so" exits 125 "a library that LD_PRELOAD cannot name" run true
USERFAULT_PRELOAD=$dir/none.so exits 125 "no library" run true
expect "says what to do" 'set USERFAULT_PRELOAD'

# ------------------------------------------------------------------ where the library is found
unset USERFAULT_PRELOAD
mkdir -p tree/bin "tree/$LIBDIR"
cp "$launcher" tree/bin
cp "$STUB" "tree/$LIBDIR/libuserfault-preload.so"
STUB_SHOW=$dir/env tree/bin/userfault run true
grep -qx "LD_PRELOAD=$(pwd -P)/tree/$LIBDIR/libuserfault-preload.so" env
report "in an installed tree, moved elsewhere" $?
cp "$STUB" tree/bin/libuserfault-preload.so
STUB_SHOW=$dir/env tree/bin/userfault run true
grep -qx "LD_PRELOAD=$(pwd -P)/tree/bin/libuserfault-preload.so" env
report "beside the launcher first" $?
export USERFAULT_PRELOAD="$STUB"

# ------------------------------------------------------------------ the rest of the line
usage "no such option" --nonsense
exits 125 "no program" run
exits 125 "no command" "$launcher"
exits 125 "no such command" "$launcher" walk
exits 125 "no memcp beside a launcher that was moved away" tree/bin/userfault memcp --size=1M
expect "says what it would be built with" "there is no .*/userfault-memcp: it is built where libxxhash was found"
commands=run
[ ! -x "$BUILD/userfault-memcp" ] || commands="run memcp"
for command in "" $commands; do
    # shellcheck disable=SC2086 # none is no word
    exits 0 "help ${command:-of all}" "$launcher" $command --help
    narrow "is narrow enough"
    # shellcheck disable=SC2086
    exits 0 "version ${command:-of all}" "$launcher" $command --version
    expect "is a number" '^userfault [0-9]+\.[0-9]+'
done
# shellcheck disable=SC2016
exits 0 "options after the program are its own" run sh -c '[ "$1" = --backend=x ]' sh --backend=x
# shellcheck disable=SC2016
exits 0 "a -- after the program too" run -- sh -c '[ "$1" = -- ]' sh --
finish
