#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""QEMU's background snapshot, unmodified: the memory of a guest is saved as it was at one moment
while the guest goes on writing over it, for which the memory is write-protected. The snapshot is
loaded into another QEMU, whose guest would find a page that was saved too late."""
import os
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from machine import Lab, Wrong, run_both

MIB = "256"


def last_pass(machine):
    return int(machine.passes()[-1][1])


def save(saved, file):
    """The passes in which the moment was: from the first to the second."""
    saved.capabilities("events", "background-snapshot")
    saved.more_passes(1)  # all of it has been written
    before = last_pass(saved)
    saved.call("migrate", uri="exec:cat >" + file)
    saved.event("MIGRATION", status="completed")
    saved.more_passes(1)
    after = last_pass(saved)
    saved.more_passes(1)  # it goes on, with all of its memory as it left it
    return before + 1, after


def load(lab, file):
    loaded = lab.start("loaded", "-m", MIB, "-incoming", "defer")
    loaded.capabilities("events")
    loaded.call("migrate-incoming", uri="exec:cat " + file)
    loaded.event("MIGRATION", status="completed")
    loaded.more_passes(2)
    return loaded


def check(loaded, passes, stats, backend):
    first = int(loaded.passes()[0][1])
    if loaded.guest_lines[0][0] != "pass" or not passes[0] <= first <= passes[1]:
        raise Wrong(f"it goes on in pass {first}, saved in one of {passes}")
    if backend == "user" and (not stats["faults"]["wp"] or stats["contexts"]["kernel"]):
        raise Wrong(f"not on our facility: {stats['contexts']}, {stats['faults']}")


def snapshot(backend):
    with Lab() as lab:
        file = lab.path("snapshot")
        saved = lab.start("saved", "-m", MIB, backend=backend)
        passes = save(saved, file)
        stats = saved.quit()
        loaded = load(lab, file)
        check(loaded, passes, stats, backend)
        loaded.quit()


if __name__ == "__main__":
    sys.exit(run_both("background snapshot", snapshot))
