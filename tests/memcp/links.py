#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`userfault memcp`: what its connections can be: encrypted, compressed, compared, cut and made again,
silent; and what does not go together."""
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
from sides import BUSY, FAILED, MIB, SETUP, both_right, end, heard, run, side, start, unavailable, \
    until_more, until_switch, wrong_in
from relay import Relay
from tap import plan, point, skip

KEYS_SH = os.environ["KEYS_SH"]
MARK = b"what nobody but the receiver is to read, "  # 41 bytes
MAGIC, TALK = 0x3270636d656d6675, 18
QUIET = ["--reader=none", "--writer=none"]


def key(folder, name="psk", identity="migration"):
    """For the sender, and for the receiver."""
    file = f"--tls-psk={folder}/{name}"
    return [file, f"--tls-identity={identity}"], [file]


def certificates(folder, name, *more):
    return [f"--tls-ca={folder}/ca.pem", f"--tls-cert={folder}/{name}.pem",
            f"--tls-key={folder}/{name}.key", *more]


class Pair:
    """A sender and a receiver, and a relay between them."""

    def __init__(self, sends=(), receives=(), **relay):
        self.folder = tempfile.mkdtemp(prefix="userfault-test.")
        self.sink = start("receive", f"--listen=unix:{self.folder}/sink", side(), *receives)
        heard(self.sink, "(listening)")
        self.relay = Relay(f"{self.folder}/relay", f"{self.folder}/sink", **relay)
        self.relay.start()
        self.source = start("send", f"--to=unix:{self.folder}/relay", side(), "--json", *sends)

    def end(self):
        """Of each: status, standard output, standard error."""
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            return end(self.source), end(self.sink)


# ------------------------------------------------------------------ what the library is asked for

def moved_bytes(*words):
    status, out, err = run(side(), "--rounds=0", "--json", *QUIET, *words)
    found = json.loads(out) if status == 0 else None
    return (found["source"]["bytes"], wrong_in(found, found["plan"]["size"])) if found else (0, err)


def check_verify():
    # how many messages there are depends on how quick the link is; but each has 40 bytes, and no other odd ones
    plain, wrong = moved_bytes("--size=4M")
    more, wrong_too = moved_bytes("--size=4M", "--verify")
    point(not wrong and not wrong_too and (more - plain) % 40 == 8,
          "a checksum of the region is sent, and right", (plain, more, wrong, wrong_too))


def check_compress(folder):
    path = os.path.join(folder, "text")
    with open(path, "wb") as file:
        file.write((MARK * (4 * MIB // len(MARK) + 1))[:4 * MIB])
    for how, packed in ("off", False), ("always", True):
        sent, wrong = moved_bytes(f"--fill={path}", f"--compress={how}")
        point(not wrong and (0 < sent < MIB if packed else sent > 4 * MIB), f"compress={how}",
              (sent, wrong))
    sent, wrong = moved_bytes(f"--fill={path}", "--compress", "--bandwidth=8M")
    point(not wrong and 0 < sent < 3 * MIB, "compress: where that is faster", (sent, wrong))


# ------------------------------------------------------------------ encrypted

def check_tls(keys):
    for over in "unix", "tcp", "pipe":
        for name, words in (("a key", key(keys)[0]),
                            ("certificates", certificates(keys, "both", "--tls-host=host.test"))):
            status, out, err = run(side(), "--size=8M", "--json", f"--over={over}", *words, *BUSY)
            found = json.loads(out) if status == 0 else None
            wrong = wrong_in(found, 8 * MIB) if found else err
            point(found and not wrong and found["plan"]["tls"], f"{name}, over {over}", wrong)


def check_secret(keys, folder):
    path = os.path.join(folder, "secret")
    with open(path, "wb") as file:
        file.write(MARK * 20000)
    named = certificates(keys, "client", "--tls-host=host.test")
    for name, sends, receives in (("plain", [], []), ("a key", *key(keys)),
                                  ("certificates", named, certificates(keys, "server"))):
        pair = Pair(["--rounds=2", f"--fill={path}", *sends, *BUSY], receives, mark=MARK)
        wrong = both_right(*pair.end())
        point(not wrong and pair.relay.found == (name == "plain"), f"what can be read: {name}", wrong)
        # what will move is said in words of its own, which nothing else repeats
        pair = Pair([f"--fill={int.from_bytes(MARK[:8], 'little')}", "--size=8M", *sends, *BUSY], receives,
                    mark=MARK[:8])
        wrong = both_right(*pair.end())
        point(not wrong and pair.relay.found == (name == "plain"), f"and of what is said: {name}", wrong)


def check_tls_refused(keys):
    client = certificates(keys, "client", "--tls-host=host.test")
    server = certificates(keys, "server")
    sends, receives = key(keys)
    for name, sends, receives, status, words in (
            ("another key", key(keys, "psk-other")[0], receives, FAILED, "both need the same line"),
            ("a key of another name", key(keys, "psk-stranger", "stranger")[0], receives, FAILED,
             "both need the same line"),
            ("another host", certificates(keys, "client", "--tls-host=other.test"), server, FAILED,
             "is expected"),
            ("another authority", certificates(keys, "foreign", "--tls-host=host.test"), server, FAILED,
             "who signed it is not in"),
            ("an expired certificate", certificates(keys, "old", "--tls-host=host.test"), server, FAILED,
             "has expired (2002-01-01)"),
            ("a certificate that is not valid yet", certificates(keys, "early", "--tls-host=host.test"), server,
             FAILED, "is valid from 2101-01-01 on: is a clock wrong?"),
            ("a certificate that was revoked", certificates(keys, "revoked", "--tls-host=host.test"),
             [*server, f"--tls-crl={keys}/crl.pem"], FAILED, "has been revoked"),
            ("a receiver without", client, [], SETUP, "start this side with --tls-"),
            ("a sender without", [], server, SETUP, "this side wants TLS"),
            ("a key and certificates", sends, server, SETUP, "the other one a key")):
        source, sink = Pair(["--size=1M", *sends], receives).end()
        point(source[0] == sink[0] == status and words in source[2] and words in sink[2],
              f"refused: {name}", (source, sink))
    for words, pattern in (([f"--tls-psk={keys}/none", "--tls-identity=x"], "cannot be read"),
                           (key(keys, identity="nobody")[0], "no key of this identity"),
                           (["receive", f"--listen=unix:{keys}/x", f"--tls-psk={keys}/ca.pem"],
                            "no line NAME:KEY"),
                           (certificates(keys, "none", "--tls-host=x"), "the certificate's file cannot be read"),
                           ([*certificates(keys, "both", "--tls-host=x"), f"--tls-crl={keys}/crl-old.pem"],
                            "or is out of date"),
                           ([*certificates(keys, "both", "--tls-host=x"), f"--tls-key={keys}/server.key"],
                            "do not belong together"),
                           ([*certificates(keys, "both", "--tls-host=x"), f"--tls-ca={keys}/ca.key"],
                            "no certificate in the file of authorities"),
                           ([*certificates(keys, "both", "--tls-host=x"), f"--tls-key={keys}/both.pem"],
                            "no certificate, or no key")):
        status, _, err = run(*words)
        point(status == SETUP and pattern in err, f"refused: {pattern}", (status, err))


# ------------------------------------------------------------------ cut

def check_cut_at(keys):
    """Behind so many bytes: from behind the switch on to the last word about what was found."""
    sends = ["--size=4M", "--rounds=0", "--reconnect=30", *BUSY]
    receives = ["--reconnect=5"]  # when the very last word is lost it waits in vain
    for name, more, listens in ("plain", [], []), ("TLS", *key(keys)) if keys else ("plain", [], []):
        pair = Pair([*sends, *more], [*receives, *listens])
        wrong, whole = both_right(*pair.end()), pair.relay.passed
        point(not wrong and whole > 4 * MIB, f"{name}, not cut", wrong)
        places = [whole * i // 12 for i in range(1, 12)] + \
            [whole - back for back in (60000, 30000, 12000, 6000, 3000, 1000, 300, 5)]
        for at in places:
            pair = Pair([*sends, *more], [*receives, *listens], cuts=[at])
            source, sink = pair.end()
            wrong = both_right(source, sink)
            found = json.loads(source[1]) if not wrong else {}
            if not wrong and at < whole * 11 // 12:
                wrong = "" if found["source"]["recoveries"] == 1 and \
                    found["source"]["paused_ns"] > 0 else found["source"]["recoveries"]
            point(not wrong, f"{name}, cut behind {at} of {whole} bytes", wrong)
        pair = Pair([*sends, *more], [*receives, *listens], cuts=places)
        wrong = both_right(*pair.end())
        point(not wrong, f"{name}, cut at all of these", wrong)


def check_goodbye_lost(keys):
    """The sender is told that all has arrived, and its answer is lost."""
    words = ["--size=2M", "--rounds=0", "--reconnect=30", *QUIET]
    for name, more, listens in ("plain", [], []), ("TLS", *key(keys)) if keys else ("plain", [], []):
        pair = Pair([*words, *more], listens)
        wrong, sent = both_right(*pair.end()), pair.relay.sent
        pair = Pair([*words, *more], listens, lose=(0, sent.get(0, 0) - (40 if more else 20)))
        source, sink = pair.end()
        wrong = wrong or both_right(source, sink)
        point(not wrong and "the connection broke" in sink[2] and "did not say" not in sink[2],
              f"{name}, the goodbye is lost", wrong or sink[2])


def check_cut_for_good():
    slow = ["--size=64M", "--bandwidth=4M", "--rounds=0", "--progress", *QUIET]
    for name, sends, receives in (("for a second", ["--reconnect=1"], []),
                                  ("not at all", [], [])):
        pair = Pair([*slow, *sends], receives)
        until_switch(pair.source)
        pair.relay.close()
        source, sink = pair.end()
        good = source[0] == sink[0] == FAILED and "behind the switch" in source[2] and \
            "behind the switch" in sink[2]
        again = "no connection was made again"
        point(good and (again in source[2]) == (again in sink[2]) == bool(sends),
              f"cut for good, tried {name}", (source, sink))
    pair = Pair([*slow, "--reconnect=60,1"])
    until_switch(pair.source)
    pair.relay.cut()
    heard(pair.source, "(the connection broke)")
    until_more(pair.source)
    pair.relay.cut()
    source, sink = pair.end()
    point(source[0] == sink[0] == FAILED, "cut more often than it may be", (source, sink))
    pair = Pair([*slow, "--reconnect=60"], ["--reconnect=0"])
    until_switch(pair.source)
    pair.relay.cut()
    status, _, err = end(pair.sink)
    point(status == FAILED and "behind the switch" in err, "a receiver that does not take part", err)
    pair.source.send_signal(signal.SIGTERM)
    pair.end()


def check_cut_before():
    pair = Pair(["--size=64M", "--bandwidth=8M", "--progress", "--reconnect=60", *QUIET])
    pair.source.stderr.readline()
    pair.relay.cut()
    source, sink = pair.end()
    point(source[0] == FAILED and "before the switch" in source[2] and "is whole" in source[2],
          "cut before the switch: the memory stays at the sender", source)
    point(sink[0] == FAILED and "before the switch" in sink[2], "and the receiver ends", sink)


# ------------------------------------------------------------------ silent

def introduction(index, session=7, background=1):
    return struct.pack("<6Q", MAGIC, session, 0, index, 1, background)


def call(path, words=b""):
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(path)
    caller.sendall(words)
    return caller


def check_silent(folder):
    path = os.path.join(folder, "silent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        status, _, err = run("send", f"--to=unix:{path}", side(), "--size=1M", "--patience=1")
        point(status == FAILED and "silent" in err, "a receiver that says nothing", (status, err))
    path = os.path.join(folder, "sink")
    strangers = (b"", introduction(0)[:20], b"GET / HTTP/1.0\r\n\r\n" * 4, introduction(5), introduction(0))
    # The sender is to come and say all in time, also where it has to wait for a processor.
    sink = start("receive", f"--listen=unix:{path}", side(), "--patience=5")
    heard(sink, "(listening)")
    callers = [call(path, words) for words in strangers]
    heard(sink, "(of 4 connections 1 came)")
    status, out, err = run("send", f"--to=unix:{path}", side(), "--size=4M", "--json", *BUSY)
    point(status == 0 and not wrong_in(json.loads(out), 4 * MIB), "strangers, and then a sender", err)
    status, out, err = end(sink)
    point(status == 0 and ", 0 wrong;" in out, "and the receiver says the same", (status, out, err))
    for caller in callers:
        caller.close()
    sink = start("receive", f"--listen=unix:{path}", side(), "--patience=1")
    heard(sink, "(listening)")
    callers = [call(path, introduction(index)) for index in (0, 1, 2, TALK)]
    status, _, err = end(sink)
    point(status == FAILED and "said nothing: it is silent" in err, "a sender that says nothing",
          (status, err))
    for caller in callers:
        caller.close()


def check_many_strangers(folder):
    """More than are listened to at a time."""
    path = os.path.join(folder, "sink")
    sink = start("receive", f"--listen=unix:{path}", side())
    heard(sink, "(listening)")
    callers = [call(path) for _ in range(40)]
    status, out, err = run("send", f"--to=unix:{path}", side(), "--size=4M", "--json", *BUSY)
    point(status == 0 and not wrong_in(json.loads(out), 4 * MIB), "forty strangers that stay", err)
    point(end(sink)[0] == 0, "and the receiver ends well")
    for caller in callers:
        caller.close()


# ------------------------------------------------------------------ what does not go together

def check_combinations(folder):
    receive, send = ["receive", f"--listen=unix:{folder}/x"], ["send", f"--to=unix:{folder}/x"]
    files = ["--tls-ca=a", "--tls-cert=b", "--tls-key=c"]
    refused = (
        ([*receive, "--verify"], "the sender's to say"), ([*receive, "--compress"], "the sender's to say"),
        (["--one-socket", "--background-links=2"], "leaves none"), (["--compress=more"], "not off, auto"),
        (["send", "--to=-", "--background-links=2"], "are one connection"),
        ([*send, "--fq-rate=1Gbit"], "is for TCP"), (["--patience=0"], "1 or more"),
        (["--patience=x"], "not a number"), (["--reconnect=5"], "is for `send' and `receive'"),
        (["send", "--to=-", "--reconnect=5"], "cannot be made again"),
        (["receive", "--reconnect=5"], "cannot be made again"), ([*send, "--reconnect=5,"], "not seconds"),
        ([*send, "--reconnect=100000"], "up to a day"), ([*send, "--reconnect=5,0"], "not seconds"),
        ([*send, "--reconnect=often"], "not seconds"),
        ([*send, "--tls-ca=a"], "need all of"), ([*send, "--tls-crl=a"], "need all of"), ([*send, *files], "--tls-host=NAME"),
        ([*files], "--tls-host=NAME"), ([*send, *files, "--tls-psk=d"], "either a key"),
        ([*send, "--tls-psk=d"], "--tls-identity=NAME"), ([*send, "--tls-identity=d"], "for --tls-psk"),
        ([*receive, "--tls-psk=d", "--tls-identity=e"], "the sender's to say"),
        ([*receive, *files, "--tls-identity=e"], "for --tls-psk"),
        (["send", "--to=exec:cat", "--tls-psk=d", "--tls-identity=e"], "let the command encrypt"),
        (["receive", "--tls-psk=d"], "let the command encrypt"),
    )
    for words, pattern in refused:
        status, _, err = run(*words)
        point(status == SETUP and pattern in err, f"refused: {' '.join(words).replace(folder, '')}",
              (status, err))


def make_keys(folder):
    """Return: a folder of them; why not."""
    made = subprocess.run([KEYS_SH, folder], stdout=subprocess.PIPE, text=True, check=False)
    status, _, err = run(f"--tls-psk={folder}/psk", "--tls-identity=migration", "--size=1M", "--quiet")
    if made.returncode == 77 or (status == SETUP and "built without" in err):
        return None, made.stdout.strip() or err.strip()
    return folder, ""


def main():
    why = unavailable()
    if why is not None:
        print(f"1..0 # SKIP {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="userfault-test.") as folder, \
            tempfile.TemporaryDirectory(prefix="userfault-test.") as made:
        keys, why = make_keys(made)
        check_verify()
        check_compress(folder)
        if keys:
            check_tls(keys)
            check_secret(keys, folder)
            check_tls_refused(keys)
        else:
            skip("TLS", why)
        check_cut_at(keys)
        check_goodbye_lost(keys)
        check_cut_for_good()
        check_cut_before()
        check_silent(folder)
        check_many_strangers(folder)
        check_combinations(folder)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
