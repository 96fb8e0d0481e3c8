# SPDX-License-Identifier: MIT
"""Points of a test in Python, by TAP: point() for each, plan() at the end."""

points = 0
failed = False


def point(ok, name, detail=""):
    global points, failed
    points += 1
    failed |= not ok
    print(f"{'ok' if ok else 'not ok'} {points} - {name}")
    if not ok and detail != "":
        print(f"# got {detail}")


def skip(name, why):
    global points
    points += 1
    print(f"ok {points} - {name} # SKIP {why}")


def plan():
    """The last line; returns whether any failed, for the exit status."""
    print(f"1..{points}")
    return failed
