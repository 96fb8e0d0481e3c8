#!/bin/sh
# SPDX-License-Identifier: MIT
# Linux's own tests that use userfaultfd, unmodified, on the kernel's facility and then on ours, with
# the kernel's forbidden: what passes there passes here. tools/build-selftests builds them.
#
# A test is skipped if the program itself finds that our UFFDIO_API does not announce what the test
# needs, or if it does not pass on the kernel either. What is known not to pass stands below, with
# the reason; when it passes, it has to be taken off.
#
# Of uffd-unit-tests an error is the end of the program, so each test is run once more by itself if
# it was not reached; what cannot be reached in that way either counts as failed.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

# Patterns of tests, and why: PATTERN|reason, one a line. At an error the program ends, so the later
# kinds of memory are not reached.
expected_failures=

pool_pages=96 # two areas of 32 MiB, their copies in a child, and what uffd-stress has of 16 MiB

running=
holder=

cleanup_fn() {
    [ -z "$running" ] || { kill "$running"; wait "$running"; }
    [ -z "$holder" ] || { exec 9>&- && wait "$holder"; }
}

# Without a pool the programs skip what needs one.
grow_pool() {
    mkfifo until held
    "$HOLD_POOL" $pool_pages <until >held &
    holder=$!
    exec 9>until
    read -r said <held
    [ "$said" = ok ] || echo "# huge pages: $said"
}

# results OUTPUT: what uffd-unit-tests said of each test: its name, passed, skipped, failed or died,
# and the reason, divided by bars.
results() {
    awk '
    function tell() {
        if (name == "") return
        state = "died"; why = rest
        if (rest ~ /^done( |$)/) state = "passed"
        else if (match(rest, /^(skipped|failed) \[reason: [^]]*\]/)) {
            state = rest; sub(/ .*/, "", state)
            why = substr(rest, 1, RLENGTH - 1); sub(/^[a-z]* \[reason: /, "", why)
        }
        gsub(/\|/, "/", why)
        print name "|" state "|" (state == "passed" ? "" : why)
    }
    /^Testing .*\.\.\. / {
        tell()
        name = $0; sub(/^Testing /, "", name); sub(/\.\.\. .*/, "", name)
        rest = $0; sub(/^Testing .*\.\.\. /, "", rest)
        next
    }
    /^Userfaults unit tests/ { tell(); name = ""; next }
    { rest = rest " " $0 }
    END { tell() }' "$1"
}

# run_unit RUNNER OUTPUT ARGUMENT...: uffd-unit-tests, and how it ended if that was no exit.
run_unit() {
    runner=$1
    output=$2
    shift 2
    ended=0
    "$runner" "$tests/uffd-unit-tests" "$@" >"$output" 2>&1 </dev/null || ended=$?
    case $ended in
    124) echo "no end after $seconds s" >>"$output" ;;
    1[3-9]?) echo "killed by signal $((ended - 128))" >>"$output" ;;
    esac
}

# run_all RUNNER RESULTS: all tests in one run of the program; then, if it ended early, those that it
# did not come to, each in a run of its own.
run_all() {
    run_unit "$1" all.out
    results all.out >"$2"
    ! grep -q '^Userfaults unit tests' all.out || return 0
    for name in $("$tests/uffd-unit-tests" -l); do
        grep -q "^$name on " "$2" && continue
        # What is given to -f is looked for within names, so others may be run too.
        run_unit "$1" one.out -f "$name"
        results one.out | grep "^$name on " >>"$2"
    done
}

# Waited for, and not run by the shell itself, which would not heed a signal before the end.
limited() {
    timeout -k 5 "$seconds" "$@" 9>&- &
    running=$!
    wait "$running"
    code=$?
    running=
    return "$code"
}

on_kernel() {
    limited "$@"
}

on_user() {
    limited "$launcher" run --backend=user --deny-kernel -- "$@"
}

# field N FILE TEST: state (2) or reason (3) of a test.
field() {
    awk -F'|' -v n="$1" -v test="$3" '$1 == test { print $n; exit }' "$2"
}

not_expected() { # NAME
    point=$((point + 1))
    bad=1
    echo "not ok $point - $1: passes, although it is listed as one that cannot"
}

# expected_failure TEST: why.
expected_failure() {
    echo "$expected_failures" | while IFS='|' read -r pattern because; do
        # shellcheck disable=SC2254 # it is a pattern
        case $1 in
        $pattern)
            echo "$because"
            break
            ;;
        esac
    done
}

# judge TEST: by what is in the two files of results.
judge() {
    theirs=$(field 2 kernel "$1")
    state=$(field 2 user "$1")
    why=$(field 3 user "$1")
    reason=$(expected_failure "$1")
    if [ "$state" = passed ]; then
        [ -z "$reason" ] || { not_expected "$1"; return; }
        echo "$why; on the kernel: $(field 3 kernel "$1")" >output
        [ "$theirs" != passed ] || [ "$why" = "$(field 3 kernel "$1")" ]
        report "$1" $?
    elif [ -n "$theirs" ] && [ "$theirs" != passed ]; then
        skip "$1" "on the kernel: $theirs, $(field 3 kernel "$1")"
    elif [ "$state" = skipped ] && [ "$why" = "feature missing" ]; then
        skip "$1" "needs a feature that is not announced"
    elif [ "$state" = skipped ] && [ -z "$theirs" ]; then
        skip "$1" "$why"
    elif [ -n "$reason" ]; then
        point=$((point + 1))
        echo "not ok $point - $1 # TODO $reason"
        echo "# ${state:-not reached}: $why"
    else
        echo "${state:-not reached}: $why" >output
        report "$1" 1
    fi
}

# stress RUNNER RESULTS TYPE: both ways of waiting (read, and poll from the ninth round from the
# end on), faults at random and in sequence.
stress() {
    ended=0
    "$1" "$tests/uffd-stress" "$3" 16 24 >stress.out 2>&1 </dev/null || ended=$?
    state=died
    why="status $ended, $(tail -n 2 stress.out | tr '\n|' ' /')"
    case $ended in
    0) state=passed why= ;;
    4) state=skipped ;; # KSFT_SKIP
    esac
    # Write protection is on by itself where it is announced.
    if [ $state = passed ] && ! grep -q ' wp (' stress.out; then
        state=failed why="without write protection"
    fi
    echo "uffd-stress $3|$state|$why" >>"$2"
}

# whole RUNNER RESULTS PROGRAM: one that tells how many points passed, were skipped, failed.
whole() {
    ended=0
    "$1" "$tests/$3" >whole.out 2>&1 </dev/null || ended=$?
    why=$(grep '^# Totals' whole.out) || why=$(tail -n 2 whole.out | tr '\n|' ' /')
    case $ended in
    0) state=passed ;;
    4) state=skipped ;;
    *) state=failed why="status $ended, $why" ;;
    esac
    echo "$3|$state|$why" >>"$2"
}

requires_launcher
seconds=240 # only a failure takes that long
tests=$BUILD/selftests
said=$("$(dirname "$0")/../../tools/build-selftests" "$tests" 2>&1)
case $? in
0) ;;
77) skip_all "$said" ;;
*)
    echo "$said" | sed 's/^/# /'
    echo "Bail out! tools/build-selftests failed"
    exit 1
    ;;
esac
begin
grow_pool

: >kernel
: >user
facilities=user
! kernel_allows || facilities="kernel user"
for facility in $facilities; do
    run_all "on_$facility" "$facility"
    for type in anon shmem shmem-private hugetlb hugetlb-private; do
        stress "on_$facility" "$facility" "$type"
    done
    for program in pagemap_ioctl mkdirty hugepage-mremap; do
        whole "on_$facility" "$facility" "$program"
    done
done

# The kernel decides what has to pass, so it must have been asked.
[ "$facilities" = user ] || expect "the kernel passes them" '^uffd-stress anon\|passed' kernel
cat kernel user | cut -d'|' -f1 | awk '!seen[$0]++' >names
while read -r name; do
    judge "$name"
done <names
finish
