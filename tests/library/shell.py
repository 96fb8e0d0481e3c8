# SPDX-License-Identifier: MIT
"""A shell into which a test types, in namespaces in which everything ends with the test: processes,
mounts (/tmp, /run, /etc/hosts and /etc/group are its own) and the network (loopback)."""
import os
import queue
import re
import shutil
import subprocess
import sys
import threading

from tap import point, skip

PATIENCE = 120  # seconds; only a failure takes that long
INSIDE = "USERFAULT_TEST_INSIDE"  # in the namespaces: the user's ID outside
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def enter(*folders):
    """The program begins anew there. These folders are there under their names, /tmp is empty else.
    Return: why it cannot be; None: it is done."""
    if INSIDE not in os.environ:
        how = [*NAMESPACES, *([] if os.getuid() == 0 else ["--map-root-user"])]
        if subprocess.run([*how, "true"], capture_output=True, check=False).returncode:
            return "no namespaces here"
        os.environ[INSIDE] = str(os.getuid())
        os.execvp(how[0], [*how, sys.executable, *sys.argv])
    script = """set -e
ip link set lo up
mount -t tmpfs tmpfs /mnt
number=0
for folder; do mkdir /mnt/$((number += 1)); mount --rbind "$folder" /mnt/$number; done
mount -t tmpfs tmpfs /tmp
number=0
for folder; do mkdir -p "$folder"; mount --rbind /mnt/$((number += 1)) "$folder"; done
mount -t tmpfs tmpfs /run
printf '127.0.0.1 localhost here there\\n' >/tmp/hosts
mount --bind /tmp/hosts /etc/hosts
cp /etc/group /tmp/group
grep -q '^kvm:' /tmp/group || echo kvm:x:994: >>/tmp/group
mount --bind /tmp/group /etc/group"""
    made = subprocess.run(["sh", "-c", script, "sh", *folders], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return f"no mounts here: {made.stdout}" if made.returncode else None


class Shell:
    """What is typed is a file's content, which it reads: so commands have no input, and a line is
    what it is. It prints a status behind each; what is in the background may print at any time."""
    LOOP = 'exec 3<&0 </dev/null; while read -r typed <&3; do . "$typed"; echo "@@ $typed $?"; done'

    def __init__(self, name, folder):
        self.name, self.lines, self.seen, self.count = name, queue.Queue(), "", 0
        self.begun = self.told = 0  # where in what was seen: the last command; what was not looked at
        self.process = subprocess.Popen(["sh", "-c", self.LOOP], cwd=folder, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def heard(self, pattern, since):
        """Until something has it. Return: the match; None: it ended, or took too long."""
        pattern = re.compile(pattern, re.M)
        while not (found := pattern.search(self.seen, since)):
            try:
                line = self.lines.get(timeout=PATIENCE)
            except queue.Empty:
                line = None
            if line is None:
                return None
            self.seen += line
        return found

    def begin(self, text):
        self.count, self.begun = self.count + 1, len(self.seen)
        self.typed = f"/tmp/typed-{id(self)}-{self.count}"
        with open(self.typed, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        self.process.stdin.write(self.typed + "\n")
        self.process.stdin.flush()

    def finish(self):
        """Return: the status."""
        found = self.heard(f"^@@ {self.typed} (\\d+)$", self.begun)
        return int(found.group(1)) if found else "no end"

    def run(self, text):
        self.begin(text)
        return self.finish()

    def judge(self, name, status, says):
        got, told = self.finish(), self.seen[self.begun:]
        point(got == status and re.search(says, told, re.M), f"{self.name}: {name}", f"{got}: {told}")

    def type(self, text, says="", status=0):
        self.begin(text)
        self.judge(text.splitlines()[0], status, says)

    def ends(self, says):
        self.judge("and its other end", 0, says)

    def expect(self, *patterns):
        """All of them, in any order, and counted once. Return: the first one's match."""
        found = [self.heard(pattern, self.told) for pattern in patterns]
        point(all(found), f"{self.name}: {', '.join(patterns)}", self.seen[self.told:])
        self.told = max((one.end() for one in found if one), default=self.told)
        return found[0]


def lacks(name, *tools):
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        skip(name, f"not installed: {', '.join(missing)}")
    return bool(missing)
