#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One migration of QEMU by postcopy over a unix socket, 512 MiB, and how long it took. The
destination has the facility that this program is started with, the source never ours.

What QEMU 7.2 tells of a fault's latency is the time in which all processors of the guest were
stopped (postcopy-blocktime), in milliseconds and without the number of faults. So the guest of
tests/qemu measures how long its first touch of each page takes, and counts those of 2^15 clocks and
more: that is how long its processor stood still, with all that QEMU does around the fault. In
the pass in which it moves some of those were on the source, where only the scheduler delays them.

bench-qemu idle: the time of the whole, of a guest that stands still.
bench-qemu bare: the destination has no facility, but the system calls of one (bare_qemu.c).
"""
import os
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
BUILD = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ.update(BUILD=BUILD, GUEST=os.path.join(BUILD, "tests", "qemu", "guest.elf"))
sys.path[:0] = ["@TESTS@", "@TESTS@/qemu"]
from machine import Lab, Wrong, reason_to_skip

SLOW_SHIFT, PARTS_SHIFT = 15, 4  # as in guest.h
MIB = "512"


def middle(bucket):
    """The clocks that a bucket of the guest stands for."""
    doubling, part = divmod(bucket, 1 << PARTS_SHIFT)
    width = 1 << (SLOW_SHIFT - PARTS_SHIFT + doubling)
    return ((1 << PARTS_SHIFT) + part) * width + width // 2


class Touches:
    """The slow ones of some passes."""

    def __init__(self, passes):
        self.count = sum(int(line[4]) for line in passes)
        self.clocks = sum(int(line[5], 16) for line in passes)
        self.buckets = {}
        for line in passes:
            for bucket, count in (map(int, word.split(":")) for word in line[6:]):
                self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, share):
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= share * self.count:
                return middle(bucket)
        return 0


def clocks_per_ns(machine):
    """From two of its lines, far apart."""
    lines = [(when, int(line[2], 16)) for when, line in zip(machine.heard, machine.guest_lines)
             if line[0] == "pass"]
    (start, first), (end, last) = lines[0], lines[-1]
    return (last - first) / (end - start) / 1e9


def target(path):
    """Where a link leads; nowhere if it went meanwhile, as a descriptor that is closed."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def facility(machine):
    """Whose descriptor it has."""
    folder = f"/proc/{machine.process.pid}/fd"
    links = (target(os.path.join(folder, fd)) for fd in os.listdir(folder))
    return "kernel" if "anon_inode:[userfaultfd]" in links else "user"


def without_ours():
    return {name: value for name, value in os.environ.items()
            if name != "LD_PRELOAD" and not name.startswith("USERFAULT_")}


def with_bare_calls():
    return {**without_ours(), "LD_PRELOAD": os.path.join(BUILD, "bench", "bench-bare-qemu.so")}


def begin(lab, idle, env=None):
    """Two machines that migrate; with memory that is full, and a guest that may stand still."""
    source = lab.start("source", "-m", MIB, env=without_ours())
    destination = lab.start("destination", "-m", MIB, "-incoming", "defer", env=env)
    source.more_passes(1 if idle else 3)
    uri = "unix:" + lab.path("migration")
    for machine in (source, destination):
        machine.capabilities("events", "postcopy-ram")
    source.call("migrate-set-parameters", downtime_limit=1, max_bandwidth=1 << 40)
    destination.call("migrate-incoming", uri=uri)
    if idle:
        source.call("stop")
    source.call("migrate", uri=uri)
    return source, destination


def measure_idle(lab):
    """The time of the whole; postcopy from the first moment."""
    source, destination = begin(lab, True)
    source.event("MIGRATION", status="active")
    source.call("migrate-start-postcopy")
    source.event("MIGRATION", status="completed")
    total = source.call("query-migrate")["total-time"] * 1e6
    destination.event("MIGRATION", status="completed")
    print(f"BENCH backend=kernel mean_ns={total:.0f} total_ns={total:.0f}")


def measure(lab, env=None):
    source, destination = begin(lab, False, env)
    source.event("MIGRATION_PASS", **{"pass": 2})
    source.call("migrate-start-postcopy")
    stopped = source.event("STOP")
    resumed = destination.event("RESUME")
    backend = facility(destination)
    source.event("MIGRATION", status="completed")
    destination.event("MIGRATION", status="completed")
    moving = len(destination.passes()) + 1
    destination.more_passes(1)
    touches = Touches(destination.passes()[:moving])
    if not touches.count:
        raise Wrong("the guest waited for no page")
    rate = clocks_per_ns(source)
    print(f"BENCH backend={backend} mean_ns={touches.clocks / touches.count / rate:.0f}"
          f" p50_ns={touches.quantile(0.5) / rate:.0f} p99_ns={touches.quantile(0.99) / rate:.0f}"
          f" total_ns={source.call('query-migrate')['total-time'] * 1e6:.0f}"
          f" down_ns={(resumed - stopped) * 1e9:.0f} faults={touches.count}")


def measure_bare(lab):
    measure(lab, with_bare_calls())


WAYS = {"idle": measure_idle, "bare": measure_bare}


def main():
    reason = reason_to_skip()
    if reason:
        print(reason)
        return 77
    try:
        with Lab() as lab:
            WAYS.get("".join(sys.argv[1:]), measure)(lab)
    except Wrong as found:
        print(found)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
