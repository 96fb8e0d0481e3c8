#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A core dump is the program's own: on either facility it says the same to a debugger."""
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from tap import plan, point

LAUNCHER = os.path.join(os.environ["BUILD"], "userfault")
DIES = os.environ["DIES"]
PATIENCE = 60  # seconds; only a failure takes that long

PT_LOAD, PT_NOTE = 1, 4
NT_PRSTATUS, NT_PRFPREG, NT_SIGINFO = 1, 2, 0x53494749
RBX, RIP, RSP = 5, 16, 19  # of user_regs_struct
SIGNAL, NOTED = 12, 112  # in elf_prstatus: pr_cursig, pr_reg

OURS = 4 << 20  # bytes of the core that the library may be: its variables, its stack of a signal


class Core:
    """What is needed of an ELF core of x86-64."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.loads, self.notes = [], []
        head = self.file.read(64)
        assert head[:5] == b"\x7fELF\x02" and struct.unpack_from("<H", head, 16)[0] == 4
        table, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        for i in range(count):
            self.file.seek(table + i * size)
            kind, _, offset, start, _, stored, _, _ = struct.unpack("<IIQQQQQQ", self.file.read(56))
            if kind == PT_LOAD:
                self.loads.append((start, offset, stored))
            elif kind == PT_NOTE:
                self.file.seek(offset)
                self.read_notes(self.file.read(stored))

    def read_notes(self, data):
        at = 0
        while at + 12 <= len(data):
            name, length, kind = struct.unpack_from("<III", data, at)
            at += 12 + (name + 3) // 4 * 4
            self.notes.append((kind, data[at:at + length]))
            at += (length + 3) // 4 * 4

    def of(self, kind):
        return [data for found, data in self.notes if found == kind]

    def memory(self, addr, length):
        """What is stored of it; None where the core has nothing."""
        for start, offset, stored in self.loads:
            if start <= addr and addr + length <= start + stored:
                self.file.seek(offset + addr - start)
                return self.file.read(length)
        return None

    def stored(self):
        return sum(stored for _, _, stored in self.loads)


class Expected:
    def __init__(self, core, addr):
        words = struct.unpack("<12Q", core.memory(addr, 12 * 8))
        self.rip, self.rsp, self.rbx, self.xmm0, self.sig = words[:5]
        self.code = words[5] - (1 << 64 if words[5] >> 63 else 0)
        self.addr, self.waiter_rip, self.pages = words[6:9]
        self.maps = words[9:]


def registers(prstatus):
    return struct.unpack_from("<27Q", prstatus, NOTED)


def wrong_signal(core, want):
    siginfo, = core.of(NT_SIGINFO)
    sig, _, code = struct.unpack_from("<iii", siginfo)
    addr, = struct.unpack_from("<Q", siginfo, 16)
    noted, = struct.unpack_from("<H", core.of(NT_PRSTATUS)[0], SIGNAL)
    got = (sig, code, noted)
    if got != (want.sig, want.code, want.sig):
        return f"signal and code {got}, not {(want.sig, want.code, want.sig)}"
    if want.rip and addr != want.addr:
        return f"address {addr:#x}, not {want.addr:#x}"
    return None


def wrong_registers(core, want):
    if not want.rip:
        return None
    regs = registers(core.of(NT_PRSTATUS)[0])
    xmm0, = struct.unpack_from("<Q", core.of(NT_PRFPREG)[0], 160)
    got = (regs[RIP], regs[RSP], regs[RBX], xmm0)
    expected = (want.rip, want.rsp, want.rbx, want.xmm0)
    return None if got == expected else f"registers {got}, not {expected}"


def wrong_memory(core, want):
    """What was provided is there, touched or not; what was not, reads as zeroes or is left out."""
    for number, start in enumerate(want.maps):
        for page in range(want.pages):
            got = core.memory(start + page * 4096, 4096)
            word = 0xabcd000000000000 + (number << 32) + page
            if page % 2 == 0 and got != struct.pack("<Q", word) * 512:
                return f"page {page} of mapping {number} is {got and got[:16]}"
            if page % 2 and got not in (None, bytes(4096)):
                return f"hidden page {page} of mapping {number} is {got[:16]}"
    return None


def wrong_threads(core, want):
    threads = len(core.of(NT_PRSTATUS))
    wanted = 2 if want.waiter_rip else 1
    return None if threads == wanted else f"{threads} threads, not {wanted}"


def cores_allowed():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)


def run(how, backend, env, folder):
    """Its core, and where in it the expectations stand."""
    deny = ["--deny-kernel"] if backend == "user" else []
    done = subprocess.run([LAUNCHER, "run", f"--backend={backend}", *deny, "--", DIES, how],
                          cwd=folder, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          preexec_fn=cores_allowed, timeout=PATIENCE, check=False)
    cores = os.listdir(folder)
    if len(cores) != 1:
        raise OSError(f"cores {cores}, said {done.stdout!r}, ended by {-done.returncode}")
    return -done.returncode, os.path.join(folder, cores[0]), int(done.stdout, 0)


def look(how, backend, env):
    with tempfile.TemporaryDirectory() as folder:
        try:
            signal, path, addr = run(how, backend, env, folder)
        except (OSError, ValueError) as error:
            return str(error), 0
        core = Core(path)
        want = Expected(core, addr)
        wrong = [what for what in (
            None if signal == want.sig else f"ended by {signal}, not {want.sig}",
            wrong_signal(core, want), wrong_registers(core, want), wrong_memory(core, want),
            wrong_threads(core, want)) if what]
        if how.endswith("+waiter"):
            backtrace(path, how, backend, env)
        return "; ".join(wrong), core.stored()


def backtrace(path, how, backend, env):
    name = label("backtraces of " + how, backend, env)
    if not shutil.which("gdb"):
        point(True, name + " # SKIP gdb is not installed")
        return
    wrong = wrong_backtrace(path, how)
    point(not wrong, name, wrong)


def label(how, backend, env):
    return " ".join([how, f"--backend={backend}", *(f"{k}={v}" for k, v in env.items())])


def wrong_backtrace(path, how):
    """A debugger finds the instruction that waits, through our handler or without it."""
    said = subprocess.run(["gdb", "-q", "-nx", "-batch", "-ex", "thread apply all backtrace",
                           DIES, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False).stdout
    dies = [] if how.startswith(("abort", "raise")) else ["access_dies"]
    for name in *dies, "main", "touch_waits", "wait_for_page":
        if not re.search(rf"^#\d+ .*\b{name} \(", said, re.MULTILINE):
            return f"no {name} in the backtrace: {said!r}"
    return None


def kernel_allows():
    return subprocess.run([LAUNCHER, "run", "--backend=kernel", "--", DIES, "none"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode == 2


WAYS = ("null", "readonly", "noncanonical", "beyond", "sigbus", "abort", "raise")
# Every way on both; where pages are closed to save mappings, or come in by another way, one will do.
RUNS = (
    ("kernel", {}, [way + more for way in WAYS for more in ("", "+waiter")
                    if way + more != "sigbus+waiter"]),
    ("user", {}, [way + more for way in WAYS for more in ("", "+waiter")
                  if way + more != "sigbus+waiter"]),
    ("user", {"USERFAULT_VMA_BUDGET": "20"}, ["null", "null+waiter", "readonly"]),
    ("user", {"USERFAULT_VMA_BUDGET": "20", "USERFAULT_FORCE": "noguard"}, ["null"]),
    ("user", {"USERFAULT_FORCE": "nomem"}, ["null", "null+waiter", "sigbus"]),
)


def main():
    sizes = {}
    for backend, env, ways in RUNS:
        if backend == "kernel" and not kernel_allows():
            point(True, "the kernel's facility # SKIP it is not permitted here")
            continue
        for how in ways:
            wrong, size = look(how, backend, env)
            sizes[backend, how] = size
            point(not wrong, label(how, backend, env), wrong)
    if ("kernel", "null") in sizes:
        more = sizes["user", "null"] - sizes["kernel", "null"]
        point(more < OURS, "the facility's tables are left out", f"{more} bytes more")
    return plan()


def reason_to_skip():
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as pattern:
        if pattern.read(1) in "|/":
            return "cores do not go to the current folder here"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        return "the size of cores is limited"
    if os.uname().machine != "x86_64":
        return "reads cores of x86-64"
    return None


if __name__ == "__main__":
    reason = reason_to_skip()
    if reason:
        print(f"1..0 # SKIP {reason}")
        sys.exit(0)
    for variable in ("LD_PRELOAD", "USERFAULT_BACKEND", "USERFAULT_FORCE", "USERFAULT_VMA_BUDGET"):
        os.environ.pop(variable, None)
    sys.exit(main())
