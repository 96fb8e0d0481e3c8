#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""examples/lua-live: a Lua program moves while it is asked; no answer may be wrong, no change lost."""
import os
import queue
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from relay import Relay
from tap import plan, point, skip

LUA_LIVE, LEDGER, REFUSE, LAUNCHER = (os.environ[name] for name in ("LUA_LIVE", "LEDGER", "REFUSE",
                                                                    "LAUNCHER"))
COROUTINES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "coroutines.lua")
BACKEND, OTHER = sys.argv[1], sys.argv[2]  # of the first process, and of the second
MOVES = int(os.environ.get("LUA_LIVE_MOVES", "12"))  # back and forth
MIB = os.environ.get("LUA_LIVE_MIB", "100")  # of the ledger
SMALL = "24"  # where its size does not matter
LASTING = "96"  # where the move is not to be over soon
PATIENCE = 120  # seconds; only a failure takes that long
MOVED, LOST = 10, 11
NUMBER = r"(-?\d+)"
MASK = (1 << 64) - 1


class Wrong(Exception):
    pass


class Side:
    """A process of lua-live, whose notices can be waited for."""
    all = []

    def __init__(self, *args, prefix=(), program=LUA_LIVE, env=None, notice=None,
                 stdout=subprocess.DEVNULL):
        self.lines, self.seen, self.notice = queue.Queue(), [], notice
        self.process = subprocess.Popen(
            [*prefix, program, *args], stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        Side.all.append(self)

    @property
    def pid(self):
        return str(self.process.pid)

    def read(self):
        for line in self.process.stderr:
            self.seen.append(line)
            served = re.search(r"queries at (\S+)", line)
            if served and self.notice:
                self.notice.put(served.group(1))
            self.lines.put(line)
        self.lines.put(None)

    def wait(self, pattern):
        while True:
            line = self.lines.get(timeout=PATIENCE)
            if line is None:
                raise Wrong(f"no '{pattern}' but the end: {''.join(self.seen)}")
            found = re.search(pattern, line)
            if found:
                return found

    def ended(self):
        code = self.process.wait(timeout=PATIENCE)
        self.reader.join(timeout=PATIENCE)
        return code

    def kill(self):
        self.process.kill()
        return self.ended()


class Client(threading.Thread):
    """Asks without a pause, wherever the program is served; each answer is checked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.places, self.stopped = queue.Queue(), threading.Event()
        self.progress = threading.Condition()
        self.answers = self.counter = self.gaps = self.longest = 0
        self.status, self.last = (0, 0, 0), None
        self.versions, self.error = {}, None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.talk(self.places.get(timeout=PATIENCE))
        except Exception as error:  # whatever it is, the test has to hear of it
            self.fail(f"{type(error).__name__}: {error}")

    def fail(self, what):
        with self.progress:
            self.error = self.error or what
            self.progress.notify_all()

    def talk(self, place):
        """Until the other side hangs up: what was not answered then has not been done."""
        kind, _, where = place.partition(":")
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as sock:
            sock.settimeout(PATIENCE)
            host, _, port = where.rpartition(":")
            try:
                sock.connect(where if kind == "unix" else (host, int(port)))
            except (FileNotFoundError, ConnectionRefusedError):
                return  # it has moved on already
            lines = sock.makefile("r")
            while not self.stopped.is_set():
                for query in ("add 1", "status", f"account {self.answers * 7919 % 1000}"):
                    try:
                        sock.sendall(f"{query}\n".encode())
                        line = lines.readline()
                    except (ConnectionResetError, BrokenPipeError):
                        line = ""
                    if line in ("", "moving\n"):
                        with self.progress:
                            self.gaps += 1
                            self.progress.notify_all()
                        return
                    self.check(query, line)

    def check(self, query, line):
        if query == "add 1":
            self.counter += 1
            good = line == f"ok {self.counter}\n"
        elif query == "status":
            found = re.match(rf"ok pid {NUMBER} done {NUMBER} passes {NUMBER} wrong 0 counter "
                             rf"{self.counter} ", line)
            now = tuple(int(n) for n in found.groups()) if found else None
            good = bool(now) and all(n >= before for n, before in zip(now[1:], self.status[1:]))
            if good:
                self.status = now
        else:
            good = self.check_account(line)
        if not good:
            raise Wrong(f"'{query}' after {self.status}, {self.counter}: {line!r}")
        now = time.monotonic()
        with self.progress:
            self.longest = max(self.longest, now - (self.last or now))
            self.last = now
            self.answers += 1
            self.progress.notify_all()

    def check_account(self, line):
        found = re.match(rf"ok {NUMBER} {NUMBER} {NUMBER} {NUMBER}\n", line)
        if not found:
            return line == "error not yet\n"
        n, balance, version, check = (int(x) for x in found.groups())
        x = n * 0x9e3779b97f4a7c15 + balance * 0xff51afd7ed558ccd + version * 0xc4ceb9fe1a85ec53
        x &= MASK
        older = version < self.versions.get(n, 0)
        self.versions[n] = version
        return not older and balance >= 0 and check == (x ^ (x >> 29)) & 0x7fffffff

    def until(self, what, seen):
        """Until the client has seen something; pid, done and passes are of the last status."""
        with self.progress:
            if not self.progress.wait_for(lambda: self.error or seen(), timeout=PATIENCE):
                raise Wrong(f"not in time: {what}")
        if self.error:
            raise Wrong(self.error)

    def works(self, pid):
        """The program runs there, and all of its table was found right since it does."""
        self.until(f"an answer of {pid}", lambda: self.status[0] == int(pid))
        passes = self.status[2]
        self.until("the table is checked once more", lambda: self.status[2] >= passes + 2)

    def stop(self):
        self.stopped.set()
        self.join(timeout=PATIENCE)


def send(pid, to, *options, prefix=()):
    done = subprocess.run([*prefix, LUA_LIVE, "send", *options, pid, to], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=PATIENCE, check=False)
    return done.returncode, done.stdout.strip()


def expect(got, wanted, words):
    if got != wanted:
        raise Wrong(f"{got} instead of {wanted}: {words}")


# a script that ends when it is asked
UNTIL = "live.serve(function(what) over = what == 'end' end) while not over do end"


def query(place, words=""):
    """The answer, of a unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(place.partition(":")[2])
        sock.sendall(f"{words}\n".encode())
        return sock.makefile("r").readline().strip()


def until_served(place):
    """Until the script has come to live.serve()."""
    while not query(place).startswith("ok"):
        pass


def note(words):
    print(f"# {words}")


class Scene:
    """A directory, a client, and processes, none of which is left at the end."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="lua-live-")
        self.client = Client()
        self.addresses = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stopped.set()
        for side in Side.all:
            side.kill()
            side.process.stderr.close()
        Side.all.clear()
        shutil.rmtree(self.folder)

    def path(self):
        self.addresses += 1
        return f"unix:{self.folder}/{self.addresses}"

    def script(self, text):
        path = f"{self.folder}/script.lua"
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def last_place(self, count):
        """Where the program is asked, of so many that have been told by now."""
        for _ in range(count):
            place = self.client.places.get(timeout=PATIENCE)
        return place

    def run(self, *script, serve=None, backend=BACKEND, **more):
        side = Side("run", f"--backend={backend}", f"--serve={serve or self.path()}",
                    *script, notice=self.client.places, **more)
        side.wait("runs it")
        return side

    def receive(self, listen=None, serve=None, backend=OTHER, options=(), **more):
        side = Side("receive", f"--backend={backend}", f"--listen={listen or self.path()}",
                    f"--serve={serve or self.path()}", *options, notice=self.client.places, **more)
        return side, side.wait(r"receives at (\S+)").group(1)

    def begin(self, mib=MIB, **more):
        side = self.run(LEDGER, mib, **more)
        self.client.start()
        self.client.works(side.pid)
        return side

    def end(self):
        client = self.client
        client.stop()
        if client.error:
            raise Wrong(client.error)
        note(f"{client.answers} answers; the client had to come again {client.gaps} times, and was "
             f"without an answer for {client.longest * 1000:.1f} ms at most; done {client.status[1]}, "
             f"all checked {client.status[2]} times")

    def move(self, source, target, to, *options, prefix=()):
        code, words = send(source.pid, to, *options, prefix=prefix)
        note(words)
        expect(code, 0, words)
        expect(source.ended(), MOVED, source.seen)
        note(target.wait("all of it is here.*").group(0))
        self.client.works(target.pid)


# ---- what is tried

def there_and_on():
    """To a second process, through TCP to a third, and on without precopy; all serve at one address."""
    with Scene() as scene:
        serve = scene.path()
        here = scene.begin(serve=serve)
        for options, listen, backend in ((), None, OTHER), ((), "tcp:127.0.0.1:0", BACKEND), (
                ("--rounds=0", "--bandwidth=200000000"), None, OTHER):
            there, to = scene.receive(listen=listen, serve=serve, backend=backend)
            scene.move(here, there, to, *options)
            here = there
        scene.end()


def back_and_forth():
    """Many times, on arrival: a small ledger, so that nearly all of it is on its way somewhere."""
    with Scene() as scene:
        here = scene.run("--heap=64", LEDGER, "8")
        scene.client.start()
        downtimes = []
        for i in range(MOVES):
            backend, prefix = (BACKEND, OTHER)[i % 2], ()
            if backend == "user" and i % 4 > 1:  # where there is none but ours to be found
                backend, prefix = "auto", (LAUNCHER, "run", "--backend=user", "--deny-kernel", "--")
            there, to = scene.receive(backend=backend, prefix=prefix)
            code, words = send(here.pid, to, f"--rounds={i % 3}")
            expect((code, here.ended()), (0, MOVED), words)
            downtimes.append(float(re.search(r"still for ([\d.]+) ms", words).group(1)))
            Side.all.remove(here)
            here.process.stderr.close()
            here = there
        scene.client.works(here.pid)
        note(f"{MOVES} moves; it stood still for {sorted(downtimes)[MOVES // 2]} ms in the median, "
             f"{max(downtimes)} ms at most")
        scene.end()


def failures_before():
    """Nobody listens; another build; a receiver that is killed; a stop() that fails."""
    with Scene() as scene:
        here = scene.begin(SMALL, env={"LD_PRELOAD": REFUSE})
        code, words = send(here.pid, scene.path())
        expect((code, "No such file" in words), (1, True), words)
        libraries = os.path.dirname(os.path.dirname(os.path.realpath(LUA_LIVE)))
        there, to = scene.receive(program=other_build(scene.folder),
                                  env={"LD_LIBRARY_PATH": libraries})
        code, words = send(here.pid, to)
        expect((code, "same build" in words), (1, True), words)
        there.wait("nothing arrived: .*same build")
        there, to = scene.receive()
        sending = threading.Thread(target=lambda: results.append(
            send(here.pid, to, "--bandwidth=1000000")))
        results = []
        sending.start()
        there.wait("something arrives")
        there.kill()
        sending.join(timeout=PATIENCE)
        expect((results[0][0], "it goes on here" in results[0][1]), (1, True), results)
        expect(scene.client.gaps, 0, "the client was sent away")
        scene.client.works(here.pid)
        there, to = scene.receive()
        code, words = send(here.pid, to)
        expect((code, "it goes on here" in words), (1, True), words)
        scene.client.until("it is sent away while the program stands still",
                           lambda: scene.client.gaps)
        scene.client.works(here.pid)
        expect(scene.client.gaps, 1, "the client was sent away again")
        scene.move(here, there, to)  # the receiver has waited for another try
        scene.end()


def build_id():
    notes = subprocess.run(["readelf", "-n", LUA_LIVE], stdout=subprocess.PIPE, text=True, check=True)
    return bytes.fromhex(re.search(r"Build ID: ([0-9a-f]+)", notes.stdout).group(1))


def other_build(folder):
    """The program with another build id, as if it had been linked another time."""
    build = build_id()
    with open(LUA_LIVE, "rb") as file:
        content = file.read()
    path = f"{folder}/other"
    with open(path, "wb") as file:
        file.write(content.replace(build, build[::-1]))
    os.chmod(path, 0o700)
    return path


def failures_behind():
    """Whoever is left behind the switch says what was lost, and does not run the program."""
    for victim in ("receiver", "sender"):
        with Scene() as scene:
            here = scene.begin(SMALL)
            there, to = scene.receive(options=("--patience=0",))
            results = []
            sending = threading.Thread(target=lambda: results.append(
                send(here.pid, to, "--rounds=0", "--bandwidth=2000000", "--patience=0")))
            sending.start()
            there.wait("runs it")
            if victim == "receiver":
                there.kill()
                expect(here.ended(), LOST, here.seen)
                sending.join(timeout=PATIENCE)
                expect(results[0][0], LOST, results)
                note(results[0][1])
            else:
                here.kill()
                expect(there.ended(), LOST, there.seen)
                note(there.seen[-1].strip())
                sending.join(timeout=PATIENCE)
                expect(results[0][0], 1, results)


def cuts():
    """The connection breaks behind the switch, three times: it goes on with another one."""
    with Scene() as scene:
        here = scene.begin(LASTING)
        there, to = scene.receive()
        # By what has passed, and not by who has answered meanwhile: a client that waits for a processor would
        # have the script ask for all of it before.
        relay = Relay(f"{scene.folder}/relay", to.partition(":")[2], cuts=[mib << 20 for mib in (16, 32, 48)])
        relay.start()
        results = []
        sending = threading.Thread(target=lambda: results.append(
            send(here.pid, f"unix:{scene.folder}/relay", "--rounds=0", "--bandwidth=16000000")))
        sending.start()
        there.wait("runs it")
        answers = scene.client.answers
        for _ in range(3):
            here.wait("the connection broke")
            there.wait("the connection broke")
        sending.join(timeout=PATIENCE)
        note(results[0][1])
        expect((results[0][0], here.ended()), (0, MOVED), results)
        there.wait("all of it is here")
        scene.client.works(there.pid)
        note(f"{scene.client.answers - answers} answers since the switch")
        scene.end()


def keys_refused():
    """Why there is no TLS here; nothing: there is."""
    if not shutil.which("psktool"):
        return "no psktool (Debian: gnutls-bin)"
    side = Side("receive", "--listen=unix:/nowhere/none", "--key=/nowhere/none")
    side.ended()
    return "built without GnuTLS" if "built without" in "".join(side.seen) else ""


def make_key(path):
    subprocess.run(["psktool", "--username=lua-live", "--keysize=32", f"--pskfile={path}"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return f"--key={path}"


def watched_way(scene, to):
    """Through two relays: one looks for the script, the other for what the greeting says."""
    relays = []
    for mark in b"ledger.lua", build_id():
        path = f"{scene.folder}/relay{len(relays)}"
        relays.append(Relay(path, to.partition(":")[2], mark=mark))
        relays[-1].start()
        to = f"unix:{path}"
    return to, relays


def with_a_key():
    """Encrypted, and compared at the end; who has another key, or none, is refused, and it goes on."""
    with Scene() as scene:
        good, other = make_key(f"{scene.folder}/key"), make_key(f"{scene.folder}/other")
        here = scene.begin(SMALL)
        there, to = scene.receive(options=(good,))
        watched, relays = watched_way(scene, to)
        for options, why in (((), "has a key"), ((other,), "refuses"), (("--key=/nowhere/none",), "be read")):
            code, words = send(here.pid, watched, *options)
            note(words)
            expect((code, "it goes on here" in words, why in words), (1, True, True), words)
        scene.move(here, there, watched, "--verify", good)
        expect([relay.found for relay in relays], [False, False], "something could be read on the way")
        scene.end()


def a_plain_one():
    """The same, as a proof that the relays read. Who has a key where there is none is told."""
    with Scene() as scene:
        here = scene.begin(SMALL)
        there, to = scene.receive()
        watched, relays = watched_way(scene, to)
        if not keys_refused():
            code, words = send(here.pid, watched, make_key(f"{scene.folder}/key"))
            expect((code, "has no key" in words), (1, True), words)
        scene.move(here, there, watched, "--verify")
        expect([relay.found for relay in relays], [True, True], "what passes is not what was expected")
        scene.end()


def coroutines():
    with Scene() as scene:
        places = scene.client.places
        here = scene.run(COROUTINES)
        for _ in range(3):
            there, to = scene.receive()
            ask(places.get(timeout=PATIENCE), here.pid)
            code, words = send(here.pid, to)
            note(words)
            expect(code, 0, words)
            expect(here.ended(), MOVED, here.seen)
            here = there
        ask(places.get(timeout=PATIENCE), here.pid)


def ask(place, pid):
    """Until it has run once more; nothing may be wrong."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(place.partition(":")[2])
        lines, first = sock.makefile("r"), None
        while first is None or runs < first + 5:
            sock.sendall(b"\n")
            found = re.match(rf"ok pid {pid} runs {NUMBER} wrong 0\n", line := lines.readline())
            if not found:
                raise Wrong(line)
            runs = int(found.group(1))
            first = runs if first is None else first


# whatever the script wants memory for, there is none
FULL = "local full for _ = 1, 2 do pcall(function() while true do full = {full} end end) end error('full of it', 0)"


def ends():
    """A script's arguments, its end, its error with the place, and a heap that is full."""
    with Scene() as scene:
        for text, code, words in (("if ... == 'a' then print(...) else error('no') end", 0, "runs it"),
                                  ("print(#{...})\nlocal t = nil .. ...", 1, r":2:.*\n.*traceback"),
                                  ("local t = {} while true do t[#t + 1] = {} end", 1, "not enough memory"),
                                  ("local x = = 1", 1, "unexpected symbol"),
                                  (FULL, 1, "full of it"), ("error(setmetatable({}, {__tostring = "
                                   "function() return 'its words' end}))", 1, "its words"),
                                  ("error({})", 1, "table: 0x")):
            side = Side("run", "--heap=16", scene.script(text), "a", "b")
            expect((side.ended(), bool(re.search(words, "".join(side.seen)))), (code, True), side.seen)


def not_printed():
    """What cannot be printed is told, at the end and where the program leaves."""
    with Scene() as scene, open("/dev/full", "wb") as full:
        path = scene.script("print('a line')")
        done = subprocess.run([LUA_LIVE, "run", path], stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
        expect((done.returncode, "No space left" in done.stderr), (1, True), done.stderr)
        here = scene.run(scene.script("print('a line') while true do end"), stdout=full)
        _, to = scene.receive()
        code, words = send(here.pid, to)
        expect((code, here.ended()), (0, MOVED), words)
        expect(any("what was printed is lost" in line for line in here.seen), True, here.seen)


def ends_with_the_rest_away():
    """A script ends when it has just arrived: that is its end, and nothing was lost."""
    for victim in None, "sender":
        with Scene() as scene:
            here = scene.run(scene.script(f"local t = {{}} for i = 1, 100000 do t[i] = {{i}} end {UNTIL}"))
            until_served(scene.last_place(1))
            there, to = scene.receive(options=("--patience=0",))
            results = []
            sending = threading.Thread(target=lambda to=to, pid=here.pid, results=results: results.append(
                send(pid, to, "--rounds=0", "--bandwidth=4000000", "--patience=0")))
            sending.start()
            there.wait("runs it")
            query(scene.last_place(1), "end")
            there.wait("it is over")
            if victim:
                here.kill()
            sending.join(timeout=PATIENCE)
            expect(there.ended(), 0, there.seen)
            if not victim:
                expect((results[0][0], here.ended()), (0, MOVED), results)


def ends_on_the_way():
    """A script that ends while it is being sent: its process ends, and the receiver waits on."""
    with Scene() as scene:
        here, (there, to) = scene.run(scene.script(UNTIL)), scene.receive()
        results = []
        sending = threading.Thread(target=lambda: results.append(send(here.pid, to, "--bandwidth=1000")))
        sending.start()
        there.wait("something arrives")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(scene.client.places.get(timeout=PATIENCE).partition(":")[2])
            sock.sendall(b"end\n")
            expect(here.ended(), 0, here.seen)
        sending.join(timeout=PATIENCE)
        expect((results[0][0], "it has ended" in results[0][1]), (1, True), results)
        there.wait("nothing arrived")
        here = scene.run(COROUTINES)
        code, words = send(here.pid, to)
        expect((code, here.ended()), (0, MOVED), words)


def interrupted():
    """Who wanted it moved is gone: while it is on its way, and while the request waits its turn."""
    with Scene() as scene:
        here = scene.begin(SMALL)
        there, to = scene.receive()
        sending = subprocess.Popen([LUA_LIVE, "send", "--bandwidth=1000000", here.pid, to],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        there.wait("something arrives")
        sending.send_signal(signal.SIGINT)
        expect(sending.wait(timeout=PATIENCE), -signal.SIGINT, "")
        here.wait("not moved, it goes on here: ")
        there.wait("nothing arrived: ")
        expect(scene.client.gaps, 0, "the client was sent away")
        scene.client.works(here.pid)
        with socket.socket(socket.AF_UNIX) as asker:  # who asks the one that has no program yet
            asker.connect(f"\0lua-live-{there.pid}")
            asker.sendall(b"unix:/nowhere/none".ljust(512, b"\0") + bytes(24))
        scene.move(here, there, to)
        there.wait("it stays")
        scene.client.works(there.pid)
        scene.end()


def given_up_in_time():
    """Behind the switch there is nobody any more who answers: no longer is it tried than was said."""
    with Scene() as scene:
        here = scene.begin(SMALL)
        there, to = scene.receive(options=("--patience=2",))
        path = f"{scene.folder}/relay"
        relay = Relay(path, to.partition(":")[2])
        relay.start()
        results = []
        sending = threading.Thread(target=lambda: results.append(
            send(here.pid, f"unix:{path}", "--rounds=0", "--bandwidth=1000000", "--patience=2")))
        sending.start()
        there.wait("runs it")
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as mute:  # whoever connects to it waits
            mute.bind(path)
            mute.listen(0)
            callers = fill(path)
            relay.close()
            there.wait("the connection broke")
            strangers = [socket.socket(socket.AF_UNIX) for _ in range(3)]  # they are nobody's reason to wait
            for stranger in strangers:
                stranger.connect(to.partition(":")[2])
            expect((here.ended(), there.ended()), (LOST, LOST), (here.seen, there.seen))
            sending.join(timeout=PATIENCE)
            expect(results[0][0], LOST, results)
            for caller in (*callers, *strangers):
                caller.close()


def fill(path):
    """Until nobody can connect any more without waiting."""
    callers = []
    while True:
        caller = socket.socket(socket.AF_UNIX)
        caller.setblocking(False)
        callers.append(caller)
        try:
            caller.connect(path)
        except BlockingIOError:
            return callers


def two_senders():
    """To one receiver at a time: one of them arrives, and the other one goes on."""
    for _ in range(4):
        with Scene() as scene:
            both = [scene.run(COROUTINES), scene.run(COROUTINES)]
            there, to = scene.receive()
            results = [None, None]

            def move(i, both=both, to=to, results=results):
                results[i] = send(both[i].pid, to)

            sending = [threading.Thread(target=move, args=(i,)) for i in range(2)]
            for thread in sending:
                thread.start()
            for thread in sending:
                thread.join(timeout=PATIENCE)
            expect(sorted(code for code, _ in results), [0, 1], results)
            stays = results[1][0]
            expect((both[1 - stays].ended(), "it goes on here" in results[stays][1]), (MOVED, True), results)
            there.wait("all of it is here")


def no_descriptor():
    """Nobody can be accepted just now: that is told now and then, and it goes on when it can be."""
    with Scene() as scene:
        here, (there, to) = scene.run(COROUTINES), scene.receive()
        for side in here, there:
            taken = {int(fd) for fd in os.listdir(f"/proc/{side.pid}/fd")}
            free = min(set(range(len(taken) + 1)) - taken)
            limits = resource.prlimit(int(side.pid), resource.RLIMIT_NOFILE)
            # a thread that accepts may have its descriptor already; the next one gets none
            resource.prlimit(int(side.pid), resource.RLIMIT_NOFILE, (free, limits[1]))
            began = time.monotonic()  # before the first time, which may be read of late
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(f"\0lua-live-{side.pid}" if side == here else to.partition(":")[2])
            for _ in range(6):
                side.wait("Too many open files")
            expect(time.monotonic() - began > 0.4, True, "it does nothing else")
            resource.prlimit(int(side.pid), resource.RLIMIT_NOFILE, limits)
        code, words = send(here.pid, to)
        expect((code, here.ended()), (0, MOVED), words)


def collector():
    """What a script wants of the collector while a move has stopped it is done when it goes on."""
    with Scene() as scene:
        here = scene.run(scene.script("local t = {} for i = 1, 100000 do t[i] = {i} end "
                                      "collectgarbage('stop') live.serve(function(what) "
                                      "if what ~= '' then collectgarbage(what) end "
                                      "return collectgarbage('isrunning') end) while true do end"))
        place = scene.last_place(1)
        until_served(place)
        for what, running in ("restart", "true"), ("stop", "false"):
            there, to = scene.receive()
            results = []
            sending = threading.Thread(target=lambda to=to, results=results: results.append(
                send(here.pid, to, "--bandwidth=1000000")))
            sending.start()
            there.wait("something arrives")
            expect(query(place, what), f"ok {running}", what)
            there.kill()
            sending.join(timeout=PATIENCE)
            expect((results[0][0], query(place)), (1, f"ok {running}"), f"{what}: {results}")


def silent_asker():
    """Who connects and says nothing is not waited for for ever."""
    with Scene() as scene:
        here, (_, to) = scene.run(COROUTINES), scene.receive()
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(f"\0lua-live-{here.pid}")
            code, words = send(here.pid, to)
            expect((code, here.ended()), (0, MOVED), words)


def wrong_words():
    """What cannot be is refused by words that say why; and a socket that was left behind is in nobody's way."""
    with Scene() as scene:
        serve = scene.path()
        here = scene.begin(SMALL, serve=serve)
        gone = subprocess.Popen(["true"])
        gone.wait()
        for words, code, pattern in (
                (("send", str(gone.pid), "unix:/x"), 1, "there is no process"),
                (("send", str(os.getpid()), "unix:/x"), 1, "no lua-live"),
                (("send", "me", "unix:/x"), 2, "'me' is no number"),
                (("send", "--bandwidth=100M", here.pid, "unix:/x"), 2, "--bandwidth: '100M'"),
                (("send", "--rounds=-1", here.pid, "unix:/x"), 2, "--rounds: '-1'"),
                (("send", here.pid, "nowhere"), 1, "no address"),
                (("send", here.pid, "tcp:127.0.0.1:1"), 1, "refused"),
                (("send", here.pid, "tcp:127.0.0.1:65536"), 1, "no address"),
                (("run", "--heap=0", LEDGER), 2, "--heap: '0'"),
                (("run", "--backend=none", LEDGER), 2, "'none' is not auto"),
                (("receive", f"--listen={serve}"), 1, "in use"),
                (("receive", "--listen=nowhere"), 1, "no address"),
                (("send", "--heap=9", here.pid, "unix:/x"), 2, "send has no option --heap"),
                (("run", "--verify", LEDGER), 2, "run has no option --verify"), (("--help",), 0, "usage: ")):
            done = subprocess.run([LUA_LIVE, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
            expect((done.returncode, pattern in done.stdout), (code, True), f"{words}: {done.stdout}")
        if os.geteuid() == 0:
            another_users()
        scene.client.works(here.pid)
        scene.client.stop()
        here.kill()
        again = scene.run(COROUTINES, serve=serve)
        expect(any("in use" in line for line in again.seen), False, again.seen)
        place = f"{scene.folder}/plain"
        with open(place, "w", encoding="ascii") as file:
            file.write("a file")
        side = Side("receive", f"--listen=unix:{place}")
        expect((side.ended(), os.path.exists(place)), (1, True), side.seen)


def another_users():
    """Somebody else has taken the name of one of our processes."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as ours, \
            socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"\0lua-live-{ours.pid}")
        os.seteuid(65534)
        taken.listen(4)
        os.seteuid(0)
        code, words = send(str(ours.pid), "unix:/x")
        ours.communicate()
        expect((code, "another user's" in words), (1, True), words)


class Network:
    """Two network namespaces with a cable between; they end with the processes that hold them."""

    def __enter__(self):
        self.holders = [subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; read line"],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                        for _ in range(2)]
        for holder in self.holders:
            holder.stdout.readline()
        first, second = (str(holder.pid) for holder in self.holders)
        self.do("ip", "link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable",
                "netns", second)
        for i in range(2):
            self.do(*self.inside(i), "ip", "link", "set", "lo", "up")
            self.do(*self.inside(i), "ip", "address", "add", f"10.23.0.{i + 1}/24", "dev", "cable")
            self.do(*self.inside(i), "ip", "link", "set", "cable", "up")
        return self

    def inside(self, i):
        return ("nsenter", "--net", "--target", str(self.holders[i].pid))

    def do(self, *command):
        subprocess.run(command, check=True, timeout=PATIENCE)

    def __exit__(self, *_):
        for holder in self.holders:
            holder.communicate(b"\n", timeout=PATIENCE)


def networks():
    """To another network namespace, through TCP, and back."""
    with Network() as net, Scene() as scene:
        here = scene.begin(prefix=net.inside(0))
        there, to = scene.receive(listen="tcp:10.23.0.2:0", prefix=net.inside(1))
        scene.move(here, there, to, prefix=net.inside(0))
        back, to = scene.receive(listen="tcp:10.23.0.1:0", prefix=net.inside(0), backend=BACKEND)
        scene.move(there, back, to, prefix=net.inside(1))
        scene.end()


# ----

def attempt(name, what):
    try:
        what()
        point(True, name)
    except (Wrong, OSError, queue.Empty, subprocess.SubprocessError) as error:
        point(False, name, f"{type(error).__name__}: {error}".replace("\n", "\n# "))


def backend_refused():
    """Whether the kernel's facility is not to be had here; why."""
    if "kernel" not in (BACKEND, OTHER):
        return ""
    with Scene() as scene:
        here = scene.run(COROUTINES, backend="kernel")
        _, to = scene.receive(backend="kernel")
        code, words = send(here.pid, to)
        return words if code and re.search("not permitted|not implemented", words) else ""


def networks_refused():
    if os.geteuid() != 0:
        return "network namespaces need root"
    for command in ("ip", "nsenter", "unshare"):
        if not shutil.which(command):
            return f"no {command} here"
    try:
        with Network():
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces: {error}"


def too_long(*_):
    raise Wrong("the whole took too long")


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE * 5 - 30)
    why = backend_refused() if LUA_LIVE else "liblua5.4-dev was not there when this was configured"
    if why:
        print(f"1..0 # SKIP {why.splitlines()[0]}")
        return 0
    note(f"a ledger of {MIB} MiB, from {BACKEND} to {OTHER}")
    attempt("it moves to a second process, and to a third, and to a fourth", there_and_on)
    attempt("back and forth, many times", back_and_forth)
    if BACKEND != OTHER:
        return plan()  # the rest has been tried on each alone
    attempt("a failure before the switch leaves it running", failures_before)
    attempt("a failure behind the switch is told, and nobody runs it", failures_behind)
    attempt("the connection breaks behind the switch", cuts)
    attempt("a checksum of the heap is compared", a_plain_one)
    why = keys_refused()
    if why:
        skip("with a key", why)
    else:
        attempt("with a key", with_a_key)
    attempt("in the middle of coroutines and sorts", coroutines)
    attempt("a script ends as it ends", ends)
    attempt("a script ends while it is sent", ends_on_the_way)
    attempt("a script ends while the rest of it is on its way", ends_with_the_rest_away)
    attempt("what cannot be printed is told", not_printed)
    attempt("behind the switch it is given up in time", given_up_in_time)
    attempt("two are sent to one receiver", two_senders)
    attempt("no descriptor is free", no_descriptor)
    attempt("the collector is as the script wants it", collector)
    attempt("who asks says nothing", silent_asker)
    attempt("who wanted it moved is gone", interrupted)
    attempt("what cannot be is refused in words", wrong_words)
    why = networks_refused()
    if why:
        skip("into another network namespace, and back", why)
    else:
        attempt("into another network namespace, and back", networks)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
