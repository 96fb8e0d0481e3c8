#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`userfault memcp` carried by ssh: by its standard input and output, and through a port that it forwards;
cut, and connected again."""
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True  # nothing is left in the source tree
from sides import BUSY, COMMAND, FAILED, MIB, PATIENCE, both_right, end, heard, side, start, unavailable, \
    until_more, until_switch, wrong_in
from sshd import Sshd
from tap import plan, point, skip_all

QUIET = ["--reader=none", "--writer=none"]


class Receiver:
    """A command for `exec:`; what it says, and how it ends, comes by a pipe with a name."""

    def __init__(self, sshd, folder):
        self.pipe, self.words = os.path.join(folder, "said"), ""
        os.mkfifo(self.pipe)
        receive = shlex.join([*COMMAND, "receive", side()])
        self.command = shlex.join([*sshd.ssh, f'( {receive}; echo "status $?" >&2 ) 2>{self.pipe}'])
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        with open(self.pipe, encoding="utf-8") as pipe:
            self.words = pipe.read()

    def said(self):
        """When nobody has the pipe open any more."""
        self.thread.join(PATIENCE)
        os.unlink(self.pipe)
        return self.words


def check_carried(sshd, folder):
    for name, words in (("", BUSY), ("no precopy, ", ["--rounds=0", *BUSY]),
                        ("once each, ", ["--rounds=0", "--reader=once:max", "--writer=none"])):
        receiver = Receiver(sshd, folder)
        source = start("send", f"--to=exec:{receiver.command}", side(), "--size=16M", "--json", *words)
        said = receiver.said()
        status, out, err = end(source)
        wrong = wrong_in(json.loads(out), 16 * MIB) if status == 0 else f"{status}: {err}"
        point(not wrong and "status 0" in said and ", 0 wrong;" in said, f"{name}by ssh", wrong + said)


def check_cut(sshd, folder):
    """What one connection carries cannot be made again: both sides say where that leaves them."""
    for rounds in 3, 0:
        receiver = Receiver(sshd, folder)
        source = start("send", f"--to=exec:{receiver.command}", side(), "--size=64M", "--bandwidth=8M",
                       "--progress", f"--rounds={rounds}", *QUIET)
        if rounds:
            source.stderr.readline()  # of its progress
        else:
            until_switch(source)
        sshd.cut()
        said = receiver.said()
        status, _, err = end(source)
        where = "before" if rounds else "behind"
        point(status == FAILED and f"{where} the switch" in err and ("is whole" in err) == bool(rounds),
              f"cut {where} the switch: the sender", f"{status}: {err}")
        point(f"status {FAILED}" in said and f"{where} the switch" in said, "and the receiver", said)


def check_forwarded(sshd, folder):
    near, far = (os.path.join(folder, name) for name in ("near", "far"))

    def forward():
        """Return: it, when it is there."""
        ssh = subprocess.Popen(
            [*sshd.ssh[:-1], "-N", "-L", f"{near}:{far}", "-o", "StreamLocalBindUnlink=yes", "-o",
             "ExitOnForwardFailure=yes", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready",
             sshd.ssh[-1]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ssh.stdout.readline()
        return ssh

    for cuts in (0, 1, 3):
        sink = start("receive", f"--listen=unix:{far}", side())
        heard(sink, "(listening)")
        ssh = forward()
        source = start("send", f"--to=unix:{near}", side(), "--size=64M", "--rounds=0", "--progress",
                       "--reconnect=60", "--json", *(["--bandwidth=16M"] if cuts else []), *BUSY)
        for cut in range(cuts):
            if cut:
                until_more(source)
            else:
                until_switch(source)
            sshd.cut()
            ssh.communicate()
            heard(source, "(the connection broke)")
            ssh = forward()
        source, sink = end(source), end(sink)
        wrong = both_right(source, sink)
        found = json.loads(source[1])["source"]["recoveries"] if not wrong else 0
        point(not wrong and found == cuts and ", 0 wrong;" in sink[1],
              f"through a forwarded socket, cut {cuts} times", (wrong, found))
        ssh.terminate()
        ssh.communicate()


def main():
    why = unavailable()
    if why is not None:
        skip_all(why)
    with tempfile.TemporaryDirectory(prefix="userfault-test.") as folder:
        sshd = Sshd(folder)
        try:
            if sshd.why:
                skip_all(sshd.why)
            check_carried(sshd, folder)
            check_cut(sshd, folder)
            check_forwarded(sshd, folder)
        finally:
            sshd.close()
    return plan()


if __name__ == "__main__":
    sys.exit(main())
