#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""QEMU's postcopy, unmodified: a guest that writes over its memory and checks it moves to another
QEMU while it runs, with its memory fetched as it is touched, on the kernel's facility and on ours.

usage: postcopy.py VARIANT
"""
import os
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from machine import HugePages, Lab, Wrong, run_both

MIB = 512
REQUESTS = 20  # of pages, before all of it is sent
SHARED = ("-object", f"memory-backend-memfd,id=ram,size={MIB}M,share=on")
HUGE = ("-object", f"memory-backend-memfd,id=ram,size={MIB}M,share=on,hugetlb=on,hugetlbsize=2M")


class Variant:
    """How the guest's memory is made, which way it goes, and what else is asked for."""

    def __init__(self, memory=(), tcp=False, capabilities=(), huge_mib=0):
        self.args = ("-m", str(MIB), *memory)
        self.board = ",memory-backend=ram" if memory else ""
        self.tcp, self.huge_mib = tcp, huge_mib
        self.capabilities = ("events", "postcopy-ram", *capabilities)


VARIANTS = {
    "unix": Variant(),
    "tcp": Variant(tcp=True, capabilities=["postcopy-blocktime"]),
    "preempt": Variant(capabilities=["postcopy-preempt", "postcopy-blocktime"]),
    "memfd": Variant(memory=SHARED),
    "huge": Variant(memory=HUGE, huge_mib=2 * MIB, capabilities=["postcopy-blocktime"]),
}


def listen(destination, variant):
    """Where the source shall connect to."""
    if not variant.tcp:
        uri = "unix:" + destination.lab.path("migration")
        destination.call("migrate-incoming", uri=uri)
        return uri
    destination.call("migrate-incoming", uri="tcp:127.0.0.1:0")
    port, = (address["port"] for address in destination.call("query-migrate")["socket-address"])
    return "tcp:127.0.0.1:" + port


def requests(source):
    return source.call("query-migrate")["ram"]["postcopy-requests"]


def migrate(source, destination, variant):
    """From the first byte to the last; the guest runs all the time."""
    for machine in (source, destination):
        machine.capabilities(*variant.capabilities)
    # A millisecond's worth of pages is written to in no time: precopy does not end by itself. And
    # in postcopy hardly anything is sent but what is asked for, until enough has been.
    source.call("migrate-set-parameters", downtime_limit=1, max_bandwidth=1 << 40,
                max_postcopy_bandwidth=MIB << 15)
    source.call("migrate", uri=listen(destination, variant))
    source.event("MIGRATION_PASS", **{"pass": 2})
    source.call("migrate-start-postcopy")
    source.event("MIGRATION", status="postcopy-active")
    source.repeat(lambda: requests(source) >= REQUESTS, "requests of pages in postcopy")
    source.call("migrate-set-parameters", max_postcopy_bandwidth=0)
    source.event("MIGRATION", status="completed")
    destination.event("MIGRATION", status="completed")


def check_guest(source, destination):
    """It goes on where it was, and finds all of its memory as it should be, twice."""
    destination.more_passes(2)
    last, first = (int(line[1]) for line in (source.passes()[-1], destination.passes()[0]))
    if first != last + 1:
        raise Wrong(f"pass {first} after pass {last}")
    if destination.guest_lines[0][0] != "pass":
        raise Wrong("the guest was started anew")


def check_reports(source, destination, variant):
    moved = source.call("query-migrate")
    if moved["status"] != "completed":
        raise Wrong(f"not completed: {moved}")
    blocked = destination.call("query-migrate")
    if "postcopy-blocktime" in variant.capabilities and "postcopy-vcpu-blocktime" not in blocked:
        raise Wrong(f"no blocktime: {blocked}")


def check_facility(stats, backend):
    if backend == "kernel":
        return
    faults = stats["faults"]["missing_read"] + stats["faults"]["missing_write"]
    if stats["contexts"]["kernel"] or not stats["contexts"]["user"] or not faults:
        raise Wrong(f"not on our facility: {stats['contexts']}, {stats['faults']}")


def move(variant, backend):
    with Lab() as lab:
        source = lab.start("source", *variant.args, board=variant.board)
        destination = lab.start("destination", *variant.args, "-incoming", "defer",
                                board=variant.board, backend=backend)
        source.more_passes(1)  # all of it has been written
        migrate(source, destination, variant)
        check_guest(source, destination)
        check_reports(source, destination, variant)
        check_facility(destination.quit(), backend)
        source.quit()


def main(name):
    variant = VARIANTS[name]
    with HugePages(variant.huge_mib) as pages:
        return run_both(name, lambda backend: move(variant, backend), pages.lacking)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
