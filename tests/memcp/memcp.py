#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`userfault memcp`: every transport and kind of memory; its JSON, its picture; what it says when
something is wrong, on purpose."""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True  # nothing is left in the source tree
from sides import BACKEND, BUSY, COMMAND, MIB, PATIENCE, end, heard, run, side, start, unavailable, \
    wrong_in
from tap import plan, point, skip

SVG = "{http://www.w3.org/2000/svg}"


def migration(name, *words, size=16 * MIB, page=4096):
    status, out, err = run(side(), f"--size={size}", "--json", *words)
    found = f"status {status}: {err}"
    if status == 1:
        told = json.loads(out)
        found += f"{told['sink']['verified']}, read wrong: " \
                 f"{told['source']['reads_wrong']} and {told['sink']['reads_wrong']}"
    if status == 0:
        found = wrong_in(json.loads(out), size, page)
    point(status == 0 and not found, name, found)


def check_alone():
    for over in ("unix", "tcp", "pipe"):
        for memory in ("anon", "shared"):
            migration(f"{memory} memory over {over}", f"--over={over}", f"--memory={memory}",
                      "--zero=20", *BUSY)
        migration(f"no precopy, over {over}", f"--over={over}", "--rounds=0", *BUSY)
    migration("as fast as they can, on few pages", "--rounds=0", "--writer=hot=64K:max",
              "--reader=hot=64K:max")
    migration("one socket", "--one-socket", *BUSY)
    migration("no background link", "--background-links=0", "--rounds=0", *BUSY)
    migration("five background links", "--background-links=5", *BUSY)
    migration("nobody touches it", "--writer=none", "--reader=none", size=8 * MIB)
    migration("a limit of bandwidth", "--bandwidth=800Mbit", "--rounds=0", *BUSY)
    migration("a share of the region", "--writer=seq:300%", "--reader=seq:50%")


def check_sparse():
    """Zeroes go at the switch, and what was never sent is not discarded."""
    status, out, err = run(side(), "--size=16M", "--zero=60", "--rounds=3", "--writer=none",
                           "--reader=none", "--json")
    pages = json.loads(out)["source"]["pages"] if status == 0 else {}
    point(status == 0 and pages["zero"] > 1000 and pages["precopy"] + pages["zero"] == 4096 and
          pages["discarded"] == 0, "zeroes are not discarded", err or pages)


def check_huge():
    pool = os.environ["HOLD_POOL"]
    if not pool:
        skip("huge pages", "their holder is not built")
        return
    with subprocess.Popen([pool, "40"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        why = holder.stdout.readline().strip()
        for memory in ("anon", "shared"):
            name = f"huge pages, {memory}"
            if why != "ok":
                skip(name, why)
                continue
            migration(name, "--huge-pages", f"--memory={memory}", "--zero=0", *BUSY, size=32 * MIB,
                      page=2 * MIB)
        holder.stdin.close()


# ------------------------------------------------------------------ two commands

def check_addresses(folder):
    path = os.path.join(folder, "socket")
    for address, pattern in ((f"unix:{path}", r"listening at (\S+)"),
                             ("tcp:127.0.0.1:0", r"listening on TCP port (\d+)")):
        sink = start("receive", f"--listen={address}", side())
        where = heard(sink, pattern)
        if not address.startswith("unix"):
            where = f"tcp:localhost:{where}"
        status, out, err = run("send", f"--to={where}", side(), "--size=16M", "--json",
                               "--background-links=2", *BUSY)
        name = address.split(":")[0]
        point(status == 0 and not wrong_in(json.loads(out), 16 * MIB), f"send and receive by {name}",
              err)
        status, out, _ = end(sink)
        point(status == 0 and ", 0 wrong;" in out, "and the receiver says the same", out)
    point(not os.path.exists(path), "no socket is left")


def check_streams(folder):
    there, back = os.pipe(), os.pipe()
    sink = start("receive", side(), stdin=there[0], stdout=back[1])
    source = start("send", "--to=-", side(), "--size=16M", "--json=" + os.path.join(folder, "json"),
                   *BUSY, stdin=back[0], stdout=there[1])
    for fd in (*there, *back):
        os.close(fd)
    status, _, err = end(source)
    with open(os.path.join(folder, "json"), encoding="utf-8") as file:
        text = file.read()
    found = wrong_in(json.loads(text), 16 * MIB) if status == 0 else err
    point(status == 0 and not found, "by standard input and output", found)
    status, _, err = end(sink)
    point(status == 0 and ", 0 wrong;" in err, "and the receiver says the same beside it", err)
    point("did not say" not in err, "and has heard that it was heard", err)
    command = " ".join([*COMMAND, "receive", side(), "2>/dev/null"])
    status, out, err = run("send", f"--to=exec:{command}", side(), "--size=16M", "--json", *BUSY)
    point(status == 0 and not wrong_in(json.loads(out), 16 * MIB), "by a command's", err)


def check_commands(folder):
    """A command's signals are its own, how it ends is told, and one that does not is not waited for."""
    told = os.path.join(folder, "status")
    command = " ".join([*COMMAND, "receive", side(), "--quiet"])
    status, _, err = run("send", f"--to=exec:grep SigIgn /proc/self/status > {told}; exec {command}", side(),
                         "--size=1M", "--quiet")
    with open(told, encoding="ascii") as file:
        ignored = int(file.read().split()[1], 16)
    point(status == 0 and not ignored & 1 << (signal.SIGPIPE - 1), "a command does not ignore SIGPIPE",
          (status, err, ignored))
    status, _, err = run("send", "--to=exec:exit 3", side(), "--size=1M")
    point(status == 2 and "ended with status 3" in err, "a command's status", (status, err))
    status, _, err = run("send", "--to=exec:exec sleep 1000", side(), "--size=1M", "--patience=1")
    point(status == 2 and "silent" in err and "it is told to" in err, "a command that does not end", (status, err))


# ------------------------------------------------------------------ what may hold

def check_file(folder):
    path = os.path.join(folder, "content")
    with open(path, "wb") as file:
        file.write(os.urandom(3 * MIB + 77))
    status, out, err = run(side(), f"--fill={path}", "--json", *BUSY)
    found = wrong_in(json.loads(out), 3 * MIB + 4096) if status == 0 else err
    point(status == 0 and not found, "filled from a file", found)
    status, _, err = run(side(), f"--fill={path}", "--size=8M", "--spoil=5", "--writer=none")
    point(status == 1, "a bit of it that changes is noticed", err)
    status, _, err = run(side(), f"--fill={path}x")
    point(status == 125 and "No such file" in err, "no file", err)


def check_spoiled():
    for rounds in (0, 3):
        status, out, err = run(side(), "--size=8M", f"--rounds={rounds}", "--spoil=77", "--json",
                               "--reader=none")
        verified = json.loads(out)["sink"]["verified"] if status == 1 else {}
        point(status == 1 and verified["wrong"] == 1, f"one bit is noticed, {rounds} rounds",
              f"{status}: {err}")
    status, out, _ = run(side(), "--size=8M", "--spoil=77", "--reader=none")
    point(status == 1 and "1 wrong, the first of them page 77;" in out, "and named", out)
    status, out, _ = run(side(), "--size=8M", "--spoil=0", "--reader=seq:max", "--writer=none",
                         "--json")
    point(status == 1 and json.loads(out)["source"]["reads_wrong"] > 0, "the reader notices too",
          status)


def relay(source, sink, at):
    """One bit of what passes is changed behind so many bytes."""
    passed = 0
    while data := os.read(source, 65536):
        if passed <= at < passed + len(data):
            data = bytearray(data)
            data[at - passed] ^= 1
        passed += len(data)
        try:
            while data:
                data = data[os.write(sink, data):]
        except BrokenPipeError:
            break
    os.close(source)
    os.close(sink)


def check_corrupted():
    for rounds, where in ((4, "before"), (0, "behind")):
        there, passed_on, back = os.pipe(), os.pipe(), os.pipe()
        sink = start("receive", side(), stdin=passed_on[0], stdout=back[1])
        source = start("send", "--to=-", side(), "--size=16M", f"--rounds={rounds}", *BUSY,
                       stdin=back[0], stdout=there[1])
        for fd in (there[1], passed_on[0], *back):
            os.close(fd)
        thread = threading.Thread(target=relay, args=(there[0], passed_on[1], 4 * MIB))
        thread.start()
        status, _, err = end(source)
        point(status == 2 and f"failed {where} the switch" in err and
              ("the memory here is whole" in err) == (where == "before"),
              f"a bit that is changed on the way {where} the switch: the sender", f"{status}: {err}")
        status, _, err = end(sink)
        point(status == 2 and "checksum" in err, "and the receiver", f"{status}: {err}")
        thread.join(PATIENCE)


def check_killed(folder):
    """The receiver is killed while pages come; the sender's progress says when."""
    path = os.path.join(folder, "socket")
    sink = start("receive", f"--listen=unix:{path}", side())
    heard(sink, r"(listening)")
    source = start("send", f"--to=unix:{path}", side(), "--size=64M", "--bandwidth=8M", "--progress",
                   "--reader=none", "--writer=none")
    first = json.loads(source.stderr.readline())
    sink.send_signal(signal.SIGKILL)
    status, _, err = end(source)
    point(first["phase"] == "precopy" and 0 <= first["share"] <= 1, "progress is JSON", first)
    point(status == 2 and "failed before the switch" in err and "the memory here is whole" in err,
          "the receiver is killed", f"{status}: {err}")
    end(sink)
    os.path.exists(path) and os.unlink(path)


def check_short():
    """With any number of descriptors it moves, or says why not."""
    for limit in range(6, 60):
        process = start(side(), "--size=1M", "--quiet", "--writer=seq:max", "--reader=seq:max",
                        preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        status, _, err = end(process)
        if status == 0 or status not in (2, 125) or not err or "no memory" in err:
            break
    point(status == 0 and limit > 15, "so many descriptors are needed, and fewer are told",
          f"{limit}: {status}: {err}")


def check_unverified():
    """What could not be compared is not called right."""
    status, _, err = end(start(side(), "--size=8M", "--quiet",
                               env={**os.environ, "LD_PRELOAD": os.environ["NO_MARKS"]}))
    point(status == 125 and "everything moved, but the receiver had no memory" in err, "no memory to verify with",
          (status, err))


def check_no_network():
    name = "no network to be alone over: the reason"
    if os.getuid() or not shutil.which("unshare") or \
            subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        skip(name, "network namespaces are root's, and not everywhere")
        return
    status, _, err = end(start(side(), "--over=tcp", "--size=1M", prefix=["unshare", "--net"]))
    point(status == 125 and "unreachable" in err, name, (status, err))


def check_pieces():
    """Of memory that is watched in more pieces than the user backend keeps open it hides some, from system calls, too."""
    for over in "unix", "pipe":
        for memory in "anon", "shared":
            status, out, err = end(start(side(), "--size=32M", "--json", f"--over={over}", f"--memory={memory}",
                                         "--zero=20", "--rounds=2", "--writer=random:max", "--reader=none",
                                         env={**os.environ, "USERFAULT_VMA_BUDGET": "100"}))
            found = wrong_in(json.loads(out), 32 * MIB) if status == 0 else (status, err)
            point(not found, f"in more pieces than are kept open: {memory} memory over {over}", found)


def check_no_pages():
    """Alone, who has no memory says so, and not that the other side is gone."""
    status, out, err = run(side(), "--size=64T", "--huge-pages")
    point(status == 125 and "in huge pages: Cannot allocate memory" in err and "said nothing" not in err and not out,
          "no memory to be alone with: the reason, and that alone", (status, err))


def check_progress(folder):
    """What was sent in vain is not counted as done behind the switch."""
    path = os.path.join(folder, "progress")
    status, _, err = run(side(), "--size=32M", "--rounds=1", "--writer=random:5k", "--reader=none",
                         "--bandwidth=20M", "--quiet", f"--progress={path}")
    with open(path, encoding="ascii") as file:
        late = [line for line in map(json.loads, file) if line["phase"] == "postcopy"]
    point(status == 0 and late[0]["share"] < 1 and late[0]["seconds_left"] > 0 and late[-1]["share"] == 1 and
          late[-1]["seconds_left"] == 0, "progress behind the switch", err or late)


# ------------------------------------------------------------------ what is told

def check_waits_over_time():
    """A long wait stands in the series where it was, not where it ended: no thread waits longer than the time."""
    status, out, err = run(side(), "--size=1M", "--json", "--rounds=0", "--over=tcp", "--one-socket", "--fq-rate=1M",
                           "--writer=none", "--reader=random:max")
    if status:
        point(False, "waits over time", (status, err))
        return
    sink = json.loads(out)["sink"]
    series, threads = sink["series"], len(sink["blocked_threads"])
    steps = [(after["blocked_ns"] - before["blocked_ns"], after["at_ns"] - before["at_ns"])
             for before, after in zip(series, series[1:])]
    # where short waits were between two samples is not known
    too_much = sum(max(0, blocked - threads * time) for blocked, time in steps)
    point(min(steps)[0] >= 0 and series[-1]["blocked_ns"] == sink["blocked_ns"] > 0 and
          too_much < 0.3 * sink["blocked_ns"], "waits over time",
          f"{too_much} ns of {sink['blocked_ns']} of {threads} threads: {steps}")


def check_told(folder):
    picture, progress = os.path.join(folder, "svg"), os.path.join(folder, "lines")
    status, out, err = run(side(), "--size=32M", f"--svg={picture}", f"--progress={progress}",
                           "--zero=10", "--rounds=2", *BUSY)
    point(status == 0 and not err, "a picture", err)
    point(all(len(line) <= 80 for line in out.splitlines()) and "0 wrong;" in out,
          "and a text of 80 columns", out)
    root = ElementTree.parse(picture).getroot()
    words = {element.text for element in root.iter(SVG + "text")}
    point(root.tag == SVG + "svg" and {"precopy", "background", "urgent", "zero", "blocked"} <= words,
          "is SVG with a legend", words)
    status, out, err = run(side(), "--size=2M", "--svg=-")
    point(status == 0 and not err and ElementTree.fromstring(out).tag == SVG + "svg", "to standard output it is alone",
          err or out[:200])
    areas = [element.get("d") for element in root.iter(SVG + "path")]
    point(len(areas) == 5 and all("nan" not in area and "inf" not in area for area in areas),
          "of five areas", areas)
    with open(picture, encoding="utf-8") as file:
        text = file.read()
    point("downtime" in text and "MiB/s" in text and "time since the start" in text,
          "with its axes and the switch")
    with open(progress, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    point(lines and lines[-1]["phase"] == "postcopy" and lines[-1]["share"] == 1,
          "progress, and its end", lines)
    check_waits_over_time()
    with open("/dev/full", "wb") as full:
        for words in ([], ["--json"], ["--quiet", "--svg=-"]):
            status, _, err = end(start(side(), "--size=2M", *words, stdout=full))
            point(status == 125 and "No space left" in err,
                  f"what cannot be told is an error {words}", f"{status}: {err}")
        for words, how in (["--progress=/dev/full"], {}), (["--progress"], {"stderr": full}):
            status, _, err = end(start(side(), "--size=2M", "--quiet", *words, **how))
            point(status == 125 and (how or "could be written" in err), f"progress, too {words}", (status, err))
    status, out, err = run(side(), "--size=8M", "--quiet")
    point(status == 0 and not out and not err, "or nothing", out + err)
    status, out, err = run(side(), "--size=8M", "--json", "--reader=once:max", "--rounds=0",
                           "--bandwidth=256K", "--writer=none")
    sink = json.loads(out)["sink"] if status == 0 else {"reads": 0}
    point(sink["reads"] == 2048 and sink["reader_waits"]["count"] > 1000 and
          0 < sink["reader_waits"]["p50_ns"] <= sink["reader_waits"]["p99_ns"],
          "each page read once, and waited for", err or sink["reads"])


def check_refused(folder):
    with open(f"{folder}/empty", "wb"):
        pass
    refused = (
        (["--max-size=1G"], "is for `receive'"), (["receive", "--bandwidth=1K"], "the sender's to say"),
        (["receive", "--size=1G"], "--size is the sender's"), (["receive", "--json"], "name a file"),
        (["send", "--to=-", "--json"], "name a file"), (["send", "--to=-", "--svg=-"], "name a file"),
        ([f"--fill={folder}/empty"], "is empty"), (["--fill=9223372036854775808"], "not a number up to"),
        (["--size=none"], "not a size"), (["--size=0"], "not a size"),
        (["--writer=random"], "not seq"), (["--writer=once:5"], "not seq"),
        (["--writer=hot=1:5"], "not seq"), (["--reader=seq:0"], "not seq"),
        (["--backend=mine"], "not auto"), (["--memory=mine"], "not anon"),
        (["--bandwidth=1Kbit"], "not bytes a second"), (["--rounds=-1"], "not a number"),
        (["--background-links=17"], "not a number up to 16"), (["--over=air"], "not unix"),
        (["walk"], "only `send' or `receive'"), (["send"], "--to=ADDRESS"),
        (["--to=unix:x"], "is for `send'"), (["--listen=unix:x"], "is for `receive'"),
        (["send", "--to=nowhere"], "not unix:PATH"), (["send", "--to=tcp:host"], "not HOST:PORT"),
        (["receive", "--listen=nowhere"], "not unix:PATH"),
        (["send", f"--to=unix:{folder}/none"], "userfault memcp receive"),
        ([f"--json={folder}/none/none"], "No such file"), (["--size=1M", "--spoil=256"], "no such page"),
        (["--bandwidth=-1Gbit"], "not bytes a second"), (["--bandwidth=1e300bit"], "not bytes a second"),
        (["--downtime=0"], "1 or more"), ([f"--fill={folder}"], "not a file that has a size"),
        (["receive"], "standard input is no"),
        (["send", "--to=tcp:localhost:65536"], "ports are 0 to 65535"),
        (["receive", "--listen=tcp::70000"], "ports are 0 to 65535"),
        (["send", "--to=exec:"], "names no command"), (["--json", "--svg=-"], "name a file for the other"),
    )
    for words, pattern in refused:
        status, _, err = run(*words)
        good = status == (2 if words == ["receive"] else 125) and pattern in err
        point(good, f"refused: {' '.join(words).replace(folder, '')}", f"{status}: {err}")
    path = f"unix:{folder}/socket"
    sink = start("receive", f"--listen={path}", "--max-size=1M", side())
    heard(sink, r"(listening)")
    status, _, err = run("send", f"--to={path}", "--size=2M", side())
    point(status == 125 and "larger than --max-size" in err, "a region that the receiver refuses", err)
    status, _, err = end(sink)
    point(status == 125 and "larger than --max-size" in err, "and it says so too", err)


def main():
    why = unavailable()
    if why is not None:
        print(f"1..0 # SKIP {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="userfault-test.") as folder:
        check_alone()
        check_sparse()
        check_huge()
        check_addresses(folder)
        check_streams(folder)
        check_commands(folder)
        check_file(folder)
        check_spoiled()
        check_corrupted()
        check_killed(folder)
        check_short()
        check_unverified()
        check_no_network()
        check_pieces()
        check_no_pages()
        check_progress(folder)
        check_told(folder)
        check_refused(folder)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
