#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One migration by `userfault memcp`, and one number of it.

usage: bench-memcp WHAT unix|tcp kernel|user

urgent      a touch of a missing page until the thread runs again, the link idle: the median
busy, one   the same while other pages fill a link of 1 Gbit/s, 99 % of them: by three sockets (of
            which one is for urgent pages alone), by one
push        pages that nobody waits for: time of the whole, a page
downtime    1 GiB, of which the program keeps writing to 200 MiB; pause: without precopy
memory      KiB that either side had beyond the region, times 1000; limit: what it may have
total       512 MiB that nobody touches
"""
import json
import os
import subprocess
import sys

LAUNCHER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "userfault")
MIB = 1 << 20
LIMIT_KIB = 16384 + (1 << 30) // 4096 // 8 // 1024
BUSY = "--size=256M --rounds=0 --background-links=1 --reader=random:2000 --writer=none --fq-rate=1Gbit"

OPTIONS = {
    "urgent": "--size=16M --rounds=0 --bandwidth=64K --reader=once:max --writer=none",
    "busy": BUSY,
    "one": BUSY.replace("--background-links=1", "--one-socket"),
    "push": "--size=256M --rounds=0 --reader=none --writer=none",
    "downtime": "--size=1G --writer=hot=200M:100k --reader=none",
    "pause": "--size=1G --rounds=0 --writer=none --reader=none",
    "memory": "--size=1G --writer=random:10k --reader=random:10k",
    "total": "--size=512M --rounds=0 --writer=none --reader=none",
}


def value(what, found):
    source, sink = found["source"], found["sink"]
    if what == "urgent":
        return sink["reader_waits"]["p50_ns"]
    if what in ("busy", "one"):
        return sink["reader_waits"]["p99_ns"]
    if what == "push":
        return source["total_ns"] / (256 * MIB / 4096)
    if what in ("downtime", "pause"):
        return source["downtime_ns"]
    if what == "memory":
        return max(source["memory_bytes"], sink["memory_bytes"]) / 1024 * 1000
    return source["total_ns"]


def main():
    what, over, backend = sys.argv[1:4]
    if what == "limit":
        print(f"BENCH backend=none mean_ns={LIMIT_KIB * 1000}")
        return 0
    done = subprocess.run([LAUNCHER, "memcp", "--json", f"--over={over}", f"--backend={backend}",
                           *OPTIONS[what].split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode != 0:
        print(done.stdout.splitlines()[-1][:150] if done.stdout else "no word")
        return 77 if done.returncode == 125 else 1
    found = json.loads(done.stdout)
    print(f"BENCH backend={backend} mean_ns={value(what, found):.0f} "
          f"total_ns={found['source']['total_ns']} down_ns={found['source']['downtime_ns']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
