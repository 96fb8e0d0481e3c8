# SPDX-License-Identifier: MIT
"""`userfault memcp`, run by tests: its sides, and what their numbers must be."""
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
BACKEND = sys.argv[1]
COMMAND = [os.path.join(os.environ["BUILD"], "userfault"), "memcp"]
PATIENCE = 60  # seconds; only a failure takes that long
MIB = 1 << 20
BUSY = ["--writer=random:20k", "--reader=hot=2M:max"]
FAILED, SETUP = 2, 125


def start(*words, prefix=(), **how):
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen([*prefix, *COMMAND, *words], **how)


def end(process):
    """Status, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "no end", "", ""
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def run(*words):
    return end(start(*words))


def side():
    return f"--backend={BACKEND}"


def unavailable():
    """Why nothing can be tried here; None: it can."""
    status, _, err = run(side(), "--size=1M", "--quiet")
    return err.strip() if status == SETUP else None


# ------------------------------------------------------------------ what the numbers must be

def late(pages):
    return pages["background"] + pages["urgent"] + pages["zero"]


def wrong_in(found, size, page=4096):
    """What is not as it should be of one migration; nothing: ""."""
    source, sink = found["source"], found["sink"]
    pages = source["pages"]
    series = source["series"]
    checks = {
        "version": found["version"] == 1 and found["error"] is None,
        "plan": found["plan"]["size"] == size and found["plan"]["page_size"] == page,
        "backend": {source["backend"], sink["backend"]} == {BACKEND},
        "verified": sink["verified"]["pages"] == size // 4096,
        "wrong": not any((sink["verified"]["wrong"], sink["verified"]["lost_when_touched"],
                          source["reads_wrong"], sink["reads_wrong"])),
        # what was not sent before is not discarded, either: zeroes, if nothing else
        "every page once behind the switch": not late(pages) < pages["discarded"] and
            (found["plan"]["zero_percent"] or found["plan"]["from_file"] or
             late(pages) == (pages["discarded"] if source["rounds"] else size // page)),
        # without a link for it a sink does not know what is urgent
        "both sides count the same": late(sink["pages"]) == late(pages) and
            (sink["pages"] == pages or found["links"] == 1 and
             all(sink["pages"][kind] == pages[kind] for kind in ("precopy", "discarded"))),
        "no page is lost": not pages["lost"] and not sink["pages"]["lost"],
        "series grow": all(before[kind] <= after[kind] for before, after in zip(series, series[1:])
                           for kind in ("at_ns", "precopy", "background", "urgent", "bytes")),
        "and end where the sums are": series[-1]["background"] == pages["background"] and
            series[-1]["precopy"] == pages["precopy"],
        "the writer went on at the sink": sink["writes"] > sink["writes_before"] or
            not found["plan"]["writer"],
        "what it did at the source was told": sink["writes_before"] == source["writes"],
        "downtime": 0 < source["downtime_ns"] < source["total_ns"],
        "latency": sum(bucket["count"] for bucket in sink["latency"]) ==
            sum(thread["faults"] for thread in sink["blocked_threads"]),
        "quantiles": sink["latency_p50_below_us"] <= sink["latency_p99_below_us"] and
            sink["latency_max_ns"] <= sink["blocked_ns"],
        "blocked": sum(thread["blocked_ns"] for thread in sink["blocked_threads"]) ==
            sink["blocked_ns"],
        "only the source knows what was on its way": "requests_dropped" in source and
            "requests_dropped" not in sink,
    }
    return ", ".join(name for name, good in checks.items() if not good)


def heard(process, pattern):
    """Its first line on standard error that says so; what is in it."""
    for line in process.stderr:
        match = re.search(pattern, line.decode())
        if match:
            return match[1]
    return ""


def both_right(source, sink):
    """Nothing: all is well."""
    if source[0] or sink[0]:
        return f"{source[0]}: {source[2]} and {sink[0]}: {sink[2]}"
    found = json.loads(source[1])["sink"]
    wrong = found["verified"]["wrong"] + found["verified"]["wrong_when_read"] + \
        found["verified"]["lost_when_touched"]
    return f"{found['verified']}" if wrong or found["verified"]["pages"] == 0 else ""


def until_switch(source):
    """By the sender's progress."""
    for line in source.stderr:
        if line.startswith(b"{") and json.loads(line)["phase"] == "postcopy":
            return


def until_more(source):
    """Until more has been sent than by the next line of progress."""
    first = None
    for line in source.stderr:
        if line.startswith(b"{"):
            share = json.loads(line)["share"]
            first = share if first is None else first
            if share > first:
                return
