#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The guest of these tests finds a word that is not what it wrote: without that, they say nothing."""
import os
import re
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from machine import Lab, Wrong, reason_to_skip
from tap import plan, point

MIB = 64
FIRST = 0x200000  # as in guest.h
PAGE = 4096


def guest_memory(pid):
    """Where it is in the process: the mapping of its size."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if end - start == MIB << 20:
                return start
    raise Wrong("the guest's memory is not found")


def spoil(page, at, how):
    """What the guest says after some bytes have been changed behind its back."""
    with Lab() as lab:
        guest = lab.start("guest", "-m", str(MIB))
        guest.more_passes(2)
        pid = guest.process.pid
        place = guest_memory(pid) + FIRST + page * PAGE + at
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            guest.call("stop")
            memory.seek(place)
            memory.write(how(memory, place))
            try:
                guest.call("cont")
                guest.more_passes(3)
            except Wrong as found:
                return str(found)
    return "nothing"


def one_bit(memory, place):
    old = memory.read(1)
    memory.seek(place)
    return bytes([old[0] ^ 4])


def zeroes(memory, place):
    return bytes(PAGE)


def another_page(memory, place):
    memory.seek(place + PAGE)
    page = memory.read(PAGE)
    memory.seek(place)
    return page


def main():
    for name, page, at, how in (("one bit", 4321, 2003, one_bit), ("zeroes", 0, 0, zeroes),
                                ("another page's words", 77, 0, another_page)):
        said = spoil(page, at, how)
        point(re.search(rf"bad page {page} of pass", said), f"the guest finds {name}", said)
    return plan()


if __name__ == "__main__":
    reason = reason_to_skip()
    if reason:
        print(f"1..0 # SKIP {reason}")
        sys.exit(0)
    sys.exit(main())
