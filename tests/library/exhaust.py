#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each allocation and each descriptor of the facility fails in turn, by strace: nothing is lost."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from tap import plan, point

BUILD = os.environ["BUILD"]
PROGRAM = os.environ["EXHAUST"]
LIBRARY = os.path.join(BUILD, "libuserfault-preload.so")
PATIENCE = 60  # seconds; only a failure takes that long

# The calls by which the facility gets something, what marks one as its own, what they answer when
# there is none. The program's own come through the same functions of libc, but look otherwise.
CALLS = (
    ("mmap", r"PROT_READ\|PROT_WRITE, .*MAP_NORESERVE", ("ENOMEM",)),
    ("mremap", r"", ("ENOMEM",)),
    ("mprotect", r"", ("ENOMEM",)),
    ("openat", r'"/proc/(?!self/fd".*O_NONBLOCK)', ("EMFILE", "ENFILE")),
    ("socket", r"SOCK_DGRAM", ("EMFILE", "ENFILE", "ENOMEM")),
    ("fcntl", r"F_DUPFD_CLOEXEC", ("EMFILE",)),
    ("memfd_create", r'"userfault"', ("EMFILE", "ENFILE", "ENOMEM")),
)
# A whole mapping of the program's is opened: it leaves the facility, which tries three calls.
RELEASE = r"mprotect\(\w+, 65536, PROT_READ\|PROT_WRITE\)"
# The bell is rung by the thread that waits: all threads' first one fails.
BELL = ("sendto", 1, "EAGAIN")
MISSED = "was not made"
MARK = "/proc/self/mem"  # the first descriptor of the first context


def strace(options, env, trace):
    setting = [word for key, value in {"LD_PRELOAD": LIBRARY, "USERFAULT_BACKEND": "user",
                                       **env}.items() for word in ("-E", f"{key}={value}")]
    return subprocess.run(["strace", "-f", "-qq", "-o", trace, "-e", "signal=none", *options,
                           *setting, PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)


def own_calls(env, folder):
    """(call, number of it in the main thread, text) of all that the facility makes."""
    trace = os.path.join(folder, "trace")
    names = ",".join(call for call, _, _ in CALLS)
    done = strace(["-e", f"trace={names}"], env, trace)
    if done.returncode:
        point(False, f"nothing fails {env}", (done.returncode, done.stdout))
        return []
    with open(trace, encoding="ascii", errors="replace") as lines:
        calls = [line.rstrip().split(None, 1) for line in lines]
    main = calls[0][0]
    calls = [text for pid, text in calls if pid == main and "resumed>" not in text]
    started = next(i for i, text in enumerate(calls) if MARK in text)
    found = []
    for call, pattern, _ in CALLS:
        numbered = [(i, text) for i, text in enumerate(calls) if text.startswith(call + "(")]
        for number, (i, text) in enumerate(numbered, 1):
            # libc's loader calls mprotect and openat, too, before there is any context
            if re.search(pattern, text) and (i >= started or call == "mmap"):
                found.append((call, number, text))
    return found


def wrong(*failure):
    """What comes of it. Numbers may shift by a call that is made when a thread waits for long."""
    bad = wrong_once(*failure)
    return wrong_once(*failure) if bad == MISSED else bad


def wrong_once(call, number, error, env, folder, made=r""):
    """made: what the first of them looks like; another one was not to fail."""
    trace = os.path.join(folder, "trace")
    done = strace(["-e", f"trace={call}",
                   "-e", f"inject={call}:error={error}:when={number}"], env, trace)
    with open(trace, encoding="ascii", errors="replace") as lines:
        failed = [line for line in lines if "(INJECTED)" in line]
    if not failed or not re.search(made, failed[0]):
        return MISSED
    early = call == "mmap" and done.returncode == 3  # no contexts, and the program goes on
    return None if done.returncode == 0 or early else (done.returncode, done.stdout)


def read_late(folder):
    """Who reads the time has to wait for a processor then: nobody who waits is taken for dead."""
    done = strace(["-e", "trace=clock_gettime", "-e", "inject=clock_gettime:delay_exit=15000"], {},
                  os.path.join(folder, "trace"))
    point(done.returncode == 0, "the time is told late", (done.returncode, done.stdout))


def main():
    with tempfile.TemporaryDirectory() as folder:
        read_late(folder)
    for env in {}, {"USERFAULT_FORCE": "nomem"}, {"USERFAULT_FORCE": "stage"}:
        with tempfile.TemporaryDirectory() as folder:
            answers = {call: errors for call, _, errors in CALLS}
            counts, releases, missed = {}, 0, 0
            for call, number, text in own_calls(env, folder):
                counts[call] = counts.get(call, 0) + 1
                error = answers[call][counts[call] % len(answers[call])]
                bad = wrong(call, number, error, env, folder)
                if bad == MISSED:
                    missed += 1
                elif bad:
                    point(False, f"{error} {number} {text} {env}", bad)
                if re.search(RELEASE, text):
                    bad = wrong(call, f"{number}..{number + 2}", error, env, folder, RELEASE)
                    if bad and bad != MISSED:  # as many as are asked for below were made
                        point(False, f"{error} thrice from {number} {text} {env}", bad)
                    releases += not bad
            # the last of a kind, where the first run made one more than all others do
            point(missed <= 2, f"calls that were made once were made again {env}", missed)
            point(releases >= 6, f"ranges that cannot be released at once go later {env}", releases)
            for call, count in counts.items():
                point(True, f"{call} failed {count} times, one at a time {env}")
            bad = wrong(*BELL, env, folder)
            point(not bad, f"a bell cannot be rung at once {env}", bad)
            point(all(counts.get(call) for call, _, _ in CALLS if call != "mremap"),
                  f"all of them were met {env}", counts)
    return plan()


def reason_to_skip():
    if not shutil.which("strace"):
        return "strace is not installed"
    if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode:
        return "strace may not trace here"
    return None


if __name__ == "__main__":
    reason = reason_to_skip()
    if reason:
        print(f"1..0 # SKIP {reason}")
        sys.exit(0)
    sys.exit(main())
