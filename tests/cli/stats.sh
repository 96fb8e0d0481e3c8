#!/bin/sh
# SPDX-License-Identifier: MIT
# --stats: for people on standard error, as JSON in a file.
set -u
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"
requires jq
begin_cli

# json NAME FILTER FILE: the filter is true of the file.
json() {
    code=0
    jq -e "$2" "$3" >"$dir/output" 2>&1 || code=1
    report "$1" $code
}

exits 7 "for people" run --stats -- sh -c 'echo out; exit 7'
expect "the program's own output is untouched" '^out$'
expect "counts" '^  contexts +[0-9]+ on the user backend'
expect "says what a bucket holds" '^    <  +16 us +[0-9]+ #'
expect "and what the last one holds" '^    >= +1073741824 us'
expect "pages continued" '^  continued   5 pages \(20.0 KiB\) in 2 calls$'
expect "pages moved" '^  moved       6 pages \(24.0 KiB\) in 3 calls$'
expect "pages poisoned" '^  poisoned    1 page \(4.0 KiB\) in 1 call$'
narrow "is narrow enough"

run --stats=file -- sh -c 'exit 7' >out 2>err
json "JSON in a file" '.version == 1 and .ended.exit == 7 and .processes == 1' file
json "sums over the processes" '.contexts.user == 2 and .copy.bytes == 122880' file
json "what else resolves pages" '.continue == {"calls": 2, "pages": 5, "bytes": 20480} and
    .move.pages == 6 and .poison.bytes == 4096' file
json "every bucket" '.latency | length == 32 and .[4].count == 29 and .[4].below_us == 16' file
json "the last one is open" '.latency[31] | .from_us == 1073741824 and (has("below_us") | not)' file
json "the program's words" '.program == ["sh", "-c", "exit 7"]' file
test ! -s out
report "nothing on standard output" $?
run --stats=- -- true >out 2>err
json "JSON on standard output" '.version == 1' out
run --stats=file -- sh -c 'true; kill -KILL $$' 2>err
json "a program that is killed" '.ended.signal == 9 and .processes > 0' file
# shellcheck disable=SC2016
run --stats=file -- sh -c '/bin/true & /bin/true & wait' 2>err
json "several processes" '.processes == 3 and .contexts.user == 6' file
run --stats=file -- sh -c : "$(printf 'a\377b')" 2>err
json "words that are no text" '.program[2] == ":" and .program[3] == null' file

exits 125 "a file that cannot be written" run --stats=none/file -- touch ran
test ! -e ran
report "is found out before the program runs" $?
exits 3 "a full disk" run --stats=/dev/full -- sh -c 'exit 3'
expect "is told, the program's status stays" '^userfault: /dev/full: '
USERFAULT_PRELOAD=$dir/not-a-library
echo text >"$USERFAULT_PRELOAD"
exits 0 "a library that does not load" run --stats -- true
expect "is told" 'without having loaded the facility'
export USERFAULT_PRELOAD="$STUB"
for name in *; do
    case $name in
    out | err | file | output | wide | not-a-library) ;;
    *) echo "$name" >>left ;;
    esac
done
test ! -e left
report "nothing is left behind" $?
finish
