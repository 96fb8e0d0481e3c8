#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Migrations of every kind of memory, by every set of links: each byte compared by the program."""
import itertools
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import tap
from tap import plan, point

MIGRATE = os.environ["MIGRATE"]
BACKEND = sys.argv[1]
PATIENCE = 60  # seconds; only a failure takes that long
MEMORY = ("private", "shared", "huge", "huge-shared")
LINKS = ("", "--one-socket", "--background=0", "--background=0 --one-socket", "--background=3")
ROUNDS = ("--rounds=0", "--rounds=4")


def run(options):
    command = [MIGRATE, f"--backend={BACKEND}", *options.split()]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        return 1, f"no end after {PATIENCE} s: {error.stdout}"
    return done.returncode, done.stdout


def refused():
    """Whether the backend itself is not to be had here; its words."""
    code, words = run("--mib=1 --rounds=0")
    return words if code and ("Operation not permitted" in words or
                              "Function not implemented" in words) else ""


def main():
    words = refused()
    if words:
        print(f"1..0 # SKIP {words.splitlines()[0]}")
        return 0
    variants = [f"--memory={memory} {links} {rounds}"
                for memory, links, rounds in itertools.product(MEMORY, LINKS, ROUNDS)]
    variants += ["--mib=1", "--mib=256 --writers=8", "--writers=16 --rounds=30",
                 "--mib=64 --rounds=9 --bandwidth=200000000",
                 *(f"--verify --background=2 --rounds=5 --memory={memory}" for memory in MEMORY), "--verify --rounds=0",
                 *(f"--verify --compress=always --background=2 --memory={memory}" for memory in MEMORY),
                 "--compress=auto --rounds=0", "--mib=16 --compress=auto --bandwidth=10000000"]
    for seed, options in enumerate(variants):
        code, words = run(f"{options} --seed={seed}")
        if code == 77:
            print(f"ok {skip()} - {options} # SKIP {words.splitlines()[-1]}")
        else:
            point(code == 0, options, words)
    return plan()


def skip():
    """The next point's number, for a line of our own."""
    tap.points += 1
    return tap.points


if __name__ == "__main__":
    sys.exit(main())
