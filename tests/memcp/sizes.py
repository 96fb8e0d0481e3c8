#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Regions of 1 MiB to 4 GiB that move by `userfault memcp` over a unix socket, every byte compared.

usage: sizes.py kernel|user [full]     without full: those that take no time and little memory
"""
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
import memcp
import sides
from tap import plan, skip

sides.PATIENCE = 900  # seconds, for 4 GiB on a busy machine
MIB = sides.MIB
SPARE = 2048 * MIB  # beyond what both sides map
SIZES = ((1, "anon"), (64, "anon"), (64, "shared"))
FULL = ((1024, "anon"), (1024, "shared"), (4096, "anon"))
HUGE = (1024, 2048)


def available():
    """Bytes that can be had without swapping, as the kernel estimates."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def move(mib, memory, *words, page=4096):
    name = f"{mib} MiB, {memory}{' of huge pages' if page > 4096 else ''}"
    needed = 2 * mib * MIB + SPARE
    if page == 4096 and available() < needed:
        skip(name, f"{needed // MIB} MiB of memory are not free")
        return
    memcp.migration(name, f"--memory={memory}", *words, *sides.BUSY, size=mib * MIB, page=page)


def move_huge(mib, memory):
    """Both sides take them from the pool, which somebody holds for as long."""
    name = f"{mib} MiB, {memory} of huge pages"
    pool = os.environ["HOLD_POOL"]
    if not pool or available() < 2 * mib * MIB + SPARE:
        skip(name, "their holder is not built" if not pool else "too little memory is free")
        return
    with subprocess.Popen([pool, str(mib + 8)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        why = holder.stdout.readline().strip()
        if why == "ok":
            move(mib, memory, "--huge-pages", "--zero=0", page=2 * MIB)
        else:
            skip(name, why)
        holder.stdin.close()


def main():
    why = sides.unavailable()
    if why is not None:
        print(f"1..0 # SKIP {why}")
        return 0
    full = sys.argv[2:] == ["full"]
    for mib, memory in SIZES + (FULL if full else ()):
        move(mib, memory, "--zero=20")
    for mib in HUGE if full else ():
        for memory in ("anon", "shared"):
            move_huge(mib, memory)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
