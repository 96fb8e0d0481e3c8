#!/bin/sh
# SPDX-License-Identifier: MIT
# Which programs are found, which are refused, and how they end.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
begin_cli

# ------------------------------------------------------------------ found or not
exits 0 "found in PATH" run true
exits 1 "its exit status is passed on" run false
# With a folder in PATH that may not be searched it would be 126, as with execvp(3).
PATH=/usr/bin:/bin exits 127 "not in PATH" run no-such-program-anywhere
exits 127 "no such path" run ./none
exits 127 "a path through a file" run /etc/passwd/none
exits 126 "a folder" run /etc
expect "says that it is one" '/etc: it is a folder'
printf 'exit 5\n' >plain
exits 126 "a file that may not be executed" run ./plain
chmod 755 plain
exits 5 "a script that names no interpreter" run ./plain
# shellcheck disable=SC2016
exits 5 "and one found in PATH, behind one that may not be executed" sh -c '
    mkdir first && : >first/plain && PATH=$PWD/first:$PWD:$PATH && "$1" run plain' sh "$launcher"
printf '#!/bin/sh\nexit 6\n' >script
chmod 755 script
exits 6 "a script" run ./script
printf '#!/no/such/interpreter\n' >orphan
chmod 755 orphan
exits 127 "a script whose interpreter is missing" run ./orphan
expect "says which" 'orphan is a script, and there is no interpreter /no/such/interpreter'
ln -s /bin/true link
exits 0 "a link" run ./link
loader=$(ldd /bin/sh | sed -n 's/^[[:space:]]*\(\/[^ ]*ld-[^ ]*\).*/\1/p')
exits 0 "the loader itself, started by hand" run "$loader" /bin/true
exits 127 "with statistics: not found" run --stats -- ./none
exits 6 "with statistics: a script" run --stats -- ./script
exits 127 "with statistics: a script whose interpreter is missing" run --stats -- ./orphan
expect_no "there is nothing to report then" 'statistics'

# ------------------------------------------------------------------ refused
exits 126 "a static program" run "$PROBE_STATIC"
expect "says why and what to do" 'statically linked.*link it dynamically'
printf '#!%s\n' "$PROBE_STATIC" >static-script
chmod 755 static-script
exits 126 "a script whose interpreter is static" run ./static-script
expect "says which" 'static-script is a script.*statically linked'
exits 126 "a program of another C library" run "$PROBE_FOREIGN"
expect "says of which" 'loaded by /lib/ld-other.so.1'
cp /bin/true alien
printf '\377' | dd of=alien bs=1 seek=18 conv=notrunc 2>/dev/null
exits 126 "a program of another architecture" run ./alien
expect "says so" 'another architecture'
for rights in u+s g+s; do
    cp /bin/true gains
    chmod $rights gains
    exits 126 "a program with $rights" run ./gains
    expect "says why and what to do" 'is set-.id, and the loader.*run a plain copy'
    exits 126 "also with statistics" run --stats ./gains
done
if command -v setcap >/dev/null && cp /bin/true capable && setcap cap_net_raw+ep capable 2>/dev/null
then
    exits 126 "a program with file capabilities" run ./capable
    expect "says why" 'file capabilities'
else
    skip "a program with file capabilities" "cannot give any"
fi

# ------------------------------------------------------------------ nothing more than asked
# What meson leaves open in us is open in the program with and without the launcher.
# shellcheck disable=SC2016 # for the inner shell
descriptors='ls /proc/$$/fd'
sh -c "$descriptors" >plainly 2>&1 </dev/null
exits 0 "no descriptor of ours" run -- sh -c "$descriptors"
cmp -s plainly output
report "is in the program" $?
run --stats -- sh -c "$descriptors" >output 2>err </dev/null
cmp -s plainly output
report "nor with statistics" $?
# shellcheck disable=SC2016
exits 0 "started with no descriptor at all" sh -c '
    "$1" run --stats=json -- sh -c "[ ! -e /proc/\$\$/fd/2 ]" <&- >&- 2>&-' sh "$launcher"
exits 0 "the statistics are whole then" grep -q '"processes": [1-9]' json
finish
