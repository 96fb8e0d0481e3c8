# SPDX-License-Identifier: MIT
"""QEMU as the tests run it: one guest of our own, driven by QMP, its debug port read."""
import collections
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from tap import plan, point

QEMU = "qemu-system-x86_64"
LAUNCHER = os.path.join(os.environ["BUILD"], "userfault")
GUEST = os.environ["GUEST"]
PATIENCE = 120  # seconds for any one step; only a failure takes that long
BARE = ("-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none")




class Wrong(Exception):
    """What was found, for the test's report."""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def run_on(backend, stats):
    """Arguments before the program's own: on that facility, and what it did goes to a file."""
    deny = ["--deny-kernel"] if backend == "user" else []
    return [LAUNCHER, "run", f"--backend={backend}", *deny, f"--stats={stats}", "--"]


def reason_to_skip():
    if os.uname().machine != "x86_64":
        return "the guest is for x86-64"
    if not shutil.which(QEMU):
        return QEMU + " is not installed"
    return None


def kernel_allows():
    demo = os.path.join(os.environ["BUILD"], "tests", "programs", "manpage_demo")
    return subprocess.run([LAUNCHER, "run", "--backend=kernel", "--", demo, "1"], check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def run_both(name, body, lacking=None):
    """body(BACKEND) raises Wrong or is right, a point for each facility."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what cleans up
    reason = reason_to_skip()
    if reason:
        print(f"1..0 # SKIP {reason}")
        return 0
    for backend in ("kernel", "user"):
        missing = lacking
        if backend == "kernel" and not kernel_allows():
            missing = "it is not permitted here"
        if missing:
            point(True, f"{name}: {backend} # SKIP {missing}")
            continue
        wrong = ""
        try:
            body(backend)
        except Wrong as found:
            wrong = str(found)
        point(not wrong, f"{name}: {backend}", wrong)
    return plan()


class HugePages:
    """So many MiB of them, from the system's pool, given back at the end."""

    def __init__(self, mib):
        self.holder = subprocess.Popen([os.environ["HOLD_POOL"], str(mib // 2)], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = self.holder.stdout.readline().strip()
        self.lacking = None if said == "ok" else said or "the pool's holder died"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.communicate()


class Machine:
    """A process of QEMU. With a backend it runs under the launcher."""

    def __init__(self, lab, name, *args, backend=None, board="", env=None):
        self.lab, self.name = lab, name
        self.guest_lines, self.heard = [], []  # each line, and when it came
        self.events, self.answers = collections.deque(), {}
        self.serial, self.ending = 0, False
        self.stats_file = lab.path(name + ".json") if backend else None
        self.said = open(lab.path(name + ".log"), "w+", encoding="utf-8", errors="replace")
        self.qmp, qmp = socket.socketpair()
        self.port, port = socket.socketpair()
        command = run_on(backend, self.stats_file) if backend else []
        command += [QEMU, "-machine", "pc" + board, "-kernel", GUEST, *BARE, *args,
                    "-chardev", f"socket,id=port,fd={port.fileno()}", "-device", "isa-debugcon,iobase=0xe9,chardev=port",
                    "-chardev", f"socket,id=qmp,fd={qmp.fileno()}", "-mon", "qmp,mode=control"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.said,
                                        stderr=subprocess.STDOUT, start_new_session=True,
                                        pass_fds=(qmp.fileno(), port.fileno()), env=env,
                                        preexec_fn=die_with_parent)
        qmp.close()
        port.close()
        lab.watch(self.qmp, lambda line: self.hear(json.loads(line)), self)
        lab.watch(self.port, self.guest_says, self)
        self.call("qmp_capabilities")

    def hear(self, message):
        if "event" in message:
            self.events.append(message)
        elif "id" in message:
            self.answers[message["id"]] = message

    def guest_says(self, line):
        line = line.decode()
        if line.startswith("bad"):
            raise Wrong(f"{self.name}'s guest: {line}")
        self.guest_lines.append(line.split())
        self.heard.append(time.monotonic())

    def call(self, command, **arguments):
        self.serial += 1
        request = {"execute": command, "id": self.serial,
                   "arguments": {key.replace("_", "-"): arguments[key] for key in arguments}}
        self.qmp.sendall(json.dumps(request).encode() + b"\n")
        serial = self.serial
        self.lab.wait(lambda: serial in self.answers, f"{self.name}: answer to {command}")
        answer = self.answers.pop(serial)
        if "error" in answer:
            raise Wrong(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    def capabilities(self, *names):
        self.call("migrate-set-capabilities",
                  capabilities=[{"capability": name, "state": True} for name in names])

    def event(self, name, **data):
        """Waits for it; those before it have been seen. Its own time, in seconds."""
        found = []

        def look():
            while self.events and not found:
                event = self.events.popleft()
                got = event.get("data", {})
                if event["event"] == name and all(got.get(key) == data[key] for key in data):
                    found.append(event["timestamp"])
                elif event["event"] == "MIGRATION" and got["status"] in ("failed", "completed"):
                    raise Wrong(f"{self.name}: migration {got['status']}; {self.log()}")
            return found

        self.lab.wait(look, f"{self.name}: event {name} {data}")
        return found[0]["seconds"] + found[0]["microseconds"] * 1e-6

    def repeat(self, question, what):
        """Asks until it is so; each answer is waited for."""
        deadline = time.monotonic() + PATIENCE
        while not question():
            if time.monotonic() > deadline:
                raise Wrong(f"in vain: {self.name}: {what}")

    def passes(self):
        return [line for line in self.guest_lines if line[0] == "pass"]

    def more_passes(self, count):
        wanted = len(self.passes()) + count
        self.lab.wait(lambda: len(self.passes()) >= wanted, f"{self.name}: {count} passes")

    def log(self):
        self.said.flush()
        self.said.seek(0)
        return " / ".join(self.said.read().splitlines()[-8:]) or "nothing said"

    def quit(self):
        """Ends it properly. What the facility did, if it ran on one."""
        self.ending = True
        self.call("quit")
        self.lab.forget(self.qmp, self.port)
        code = self.process.wait(PATIENCE)
        if code:
            raise Wrong(f"{self.name} ended with {code}; {self.log()}")
        if not self.stats_file:
            return None
        with open(self.stats_file, encoding="utf-8") as stats:
            return json.load(stats)

    def kill(self):
        """All of it, the launcher too."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.qmp.close()
        self.port.close()
        self.said.close()


class Lab:
    """The machines of one test, their files, and the one loop that waits for all of them."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.machines, self.rest = [], {}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="userfault-qemu.")
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.kill()
        self.selector.close()
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, name, *args, **options):
        machine = Machine.__new__(Machine)
        self.machines.append(machine)  # to be ended even if it does not come up
        machine.__init__(self, name, *args, **options)
        return machine

    def watch(self, sock, hear, machine):
        self.selector.register(sock, selectors.EVENT_READ, (hear, machine))
        self.rest[sock] = b""

    def forget(self, *socks):
        for sock in socks:
            if self.rest.pop(sock, None) is not None:
                self.selector.unregister(sock)

    def read(self, sock, hear, machine):
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data and machine.ending:
            return self.forget(sock)
        if not data:
            machine.process.wait(PATIENCE)
            raise Wrong(f"{machine.name} ended with {machine.process.returncode}; {machine.log()}")
        *lines, self.rest[sock] = (self.rest[sock] + data).split(b"\n")
        for line in lines:
            hear(line)
        return None

    def wait(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Wrong("in vain: " + what)
            for key, _ in self.selector.select(left):
                self.read(key.fileobj, *key.data)
