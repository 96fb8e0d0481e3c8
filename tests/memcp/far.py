#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`userfault memcp` of huge pages between two network namespaces, near and far: a page of 2 MiB travels
as one, and who touches it waits for all of it."""
import contextlib
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
from sides import BUSY, MIB, end, heard, side, start, unavailable, wrong_in
from tap import plan, point, skip, skip_all

NETWORK_HOLD, HOLD_POOL = os.environ["NETWORK_HOLD"], os.environ["HOLD_POOL"]
THERE = "10.77.0.2"
SIZE = 32 * MIB
PAGE = 2 * MIB
DELAYS_US = 0, 1000, 20000  # one way
KINDS = (("precopy", ["--rounds=2", *BUSY]),
         ("no precopy", ["--rounds=0", *BUSY]),
         ("shared, no precopy, each page once", ["--rounds=0", "--memory=shared", "--reader=once:max",
                                                 "--writer=none"]))


@contextlib.contextmanager
def held(*command):
    """What it says of what it holds, for as long."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        yield holder.stdout.readline().strip()
        holder.stdin.close()


def migrate(spaces, delay_us, words):
    """Return: what is wrong."""
    here, there = (["nsenter", f"--net={space}"] for space in spaces)
    sink = start("receive", f"--listen=tcp:{THERE}:0", side(), prefix=there)
    port = heard(sink, r"listening on TCP port (\d+)")
    source = start("send", f"--to=tcp:{THERE}:{port}", side(), f"--size={SIZE}", "--huge-pages", "--json",
                   *words, prefix=here)
    (status, out, err), (other, said, _) = end(source), end(sink)
    if status or other:
        return f"{status}: {err} and {other}: {said}"
    found = json.loads(out)
    wrong = [wrong_in(found, SIZE, PAGE)]
    if "--reader=once:max" in words and found["sink"]["latency_max_ns"] < 2000 * delay_us:
        wrong.append(f"nobody waited for a round trip: {found['sink']['latency_max_ns']} ns")
    if found["source"]["total_ns"] < 2000 * delay_us * 3:  # hands are shaken, switched, said goodbye
        wrong.append(f"quicker than the network: {found['source']['total_ns']} ns")
    return ", ".join(one for one in wrong if one)


def check(delay_us, how):
    names = [f"{delay_us / 1000:g} ms{', netem' if how else ''}: huge pages, {name}" for name, _ in KINDS]
    with held(NETWORK_HOLD, str(delay_us), *how) as said:
        for name, (_, words) in zip(names, KINDS):
            if not said.startswith("ok "):
                skip(name, said)
                continue
            wrong = migrate(said.split()[1:], delay_us, words)
            point(not wrong, name, wrong)


def check_long_waits():
    """They are not cut off where the histogram of most ends: one is a round trip of a satellite's and more."""
    name = "300 ms: the reader's waits"
    with held(NETWORK_HOLD, "300000") as said:
        if not said.startswith("ok "):
            skip(name, said)
            return
        here, there = (["nsenter", f"--net={space}"] for space in said.split()[1:])
        sink = start("receive", f"--listen=tcp:{THERE}:0", side(), prefix=there)
        port = heard(sink, r"listening on TCP port (\d+)")
        source = start("send", f"--to=tcp:{THERE}:{port}", side(), "--size=32K", "--rounds=0", "--json",
                       "--reader=once:max", "--writer=none", prefix=here)
        (status, out, err), (other, said, _) = end(source), end(sink)
        waits = json.loads(out)["sink"]["reader_waits"] if status == 0 == other else {"p99_ns": 0, "max_ns": 0}
        point(500e6 < waits["p99_ns"] <= waits["max_ns"], name, waits if status == 0 else (err, said))


def main():
    why = unavailable()
    if why is not None or os.getuid() or not HOLD_POOL:
        skip_all(why or "root's namespaces, and pool of huge pages")
    # both sides' at a time, twice: the last one's may not be back yet
    with held(HOLD_POOL, str(4 * SIZE // PAGE)) as said:
        if said != "ok":
            skip_all(said)
        for delay_us in DELAYS_US:
            for how in [], ["netem"]:
                check(delay_us, how)
    check_long_waits()
    return plan()


if __name__ == "__main__":
    sys.exit(main())
