# SPDX-License-Identifier: MIT
"""Points of a test in Python, by TAP: point() for each, plan() at the end. What a failed one has to
say stands before it, as a summary of a run expects."""

import sys

points = 0
failed = False


def point(ok, name, detail=""):
    global points, failed
    points += 1
    failed |= not ok and "# TODO" not in name
    if not ok and detail != "":
        note(f"got {detail}")
    print(f"{'ok' if ok else 'not ok'} {points} - {name}", flush=True)


def skip(name, why):
    global points
    points += 1
    print(f"ok {points} - {name} # SKIP {why}")


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def note(text):
    for line in text.splitlines():
        print(f"# {line.lstrip('# ')}", flush=True)


def plan():
    """The last line; returns whether any failed, for the exit status."""
    print(f"1..{points}")
    return failed
