#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the conformance suite on an older Debian's own kernel, in QEMU, where it is built here.

usage: tests/oldkernel/run.py [--all|--short] [--release=bookworm|bullseye] [--part=K/N] [--own] [--cases=GLOB,...] BUILD
       tests/oldkernel/run.py --network BUILD

The kernel comes from Debian's archive (kernel.sh) and lies below the build folder; its machine has
what is built here, the libraries and commands of this system that it needs, and nothing else. Cases
that do not pass there are listed in known-RELEASE.txt with a reason. What is listed as "kernel" has to
fail on that kernel's own facility, too; all else has to pass. --all runs every case; without it, one
kind of memory, or with --short some of that, as root only. A part is run as an ordinary user and with --trap=all. For those who sort: --part=2/9 runs the
second of nine parts of the same; --cases only the suite's cases of these names, listed or not; --own
the kernel's own facility instead of ours, where each has to pass.

--network: no cases, but migrations over veth and netem, which not every kernel has and that one does.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from cases import POINT, listed_in, matches, sampled
from initramfs import Initramfs
from tap import note, plan, point, skip_all

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = "qemu-system-x86_64"
PATIENCE = 6  # an emulated processor is that much slower at least
SECONDS = {False: 900, True: 5400}  # only a failure takes as long
COMMANDS = ("sh", "mount", "chmod", "uname", "cat", "setpriv", "true", "sleep", "echo", "test", "env",
            "taskset", "sed", "id")
MODULES = ("loop",)
NETWORK_COMMANDS, NETWORK_MODULES = ("ip", "tc", "nsenter"), ("veth", "sch_netem")
OURS = ("userfault", "libuserfault.so.0.1.0", "libuserfault-preload.so",
        "tests/conformance/conformance", "tests/conformance/libconformance-raw.so",
        "tests/differential/difftest", "tests/differential/difffuzz",
        "tests/library/library", "examples/demand-paging")
NETWORK_OURS = ("libuserfault.so.0.1.0", "libuserfault-postcopy.so.0.1.0", "tests/postcopy/distance")
# Without --all. Slow there: make old-kernel runs them.
SAMPLE = ("anon",)
SLOW = ["bulk/*", "copy/let-go*", "race/*", "*/race*", "thread/*", "signal/*-during-copy", "events/*",
        "create/ten-thousand", "register/terabyte", "register/many-ranges*", "call/*", "crowd/*",
        "thp/*", "scan/at-random*", "death/*", "remote/*", "register/while-written*", "*-many*"]
# As an ordinary user, and with all calls trapped.
PART = ["create/*", "register/*:anon", "resolve/*:anon", "wp/*:anon", "syscall/*:anon",
        "async/scan*:anon", "signal/*"]
# With --short: what older kernels lack or do otherwise is met by these.
SHORT = ["create/*", "register/*:anon", "resolve/*:anon", "wp/*:anon", "syscall/*:anon", "mlock/*:anon",
         "async/scan*:anon", "minor/*:memfd-shared", "minor/*:huge-memfd-shared", "move/*:anon"]

def sections(build, listed, options):
    """name: command, with the cases it runs if it is the suite: {name: (command, cases or None)}"""
    conformance = os.path.join(build, "tests/conformance/conformance")
    listing = subprocess.run([conformance, "--list"], stdout=subprocess.PIPE, text=True, check=True)
    names = [line.split()[0] for line in listing.stdout.splitlines()]
    suite = f"tests/conformance/conformance --patience={PATIENCE} --named=/cases/"
    ours = "./userfault run --backend=user --deny-kernel"
    if options.network:  # one at a time: the processors are emulated
        return {f"netem-{backend}": (f"tests/postcopy/distance {backend} netem 1", None)
                for backend in ("kernel", "user")}
    if options.cases:
        asked = [name for name in names if matches(name, options.cases.split(","))]
        if options.own:
            return {"own": (f"{suite}own --expect-backend=kernel", asked)}
        return {"root": (f"{ours} -- {suite}root --expect-backend=user", asked)}
    plain = [name for name in names if not matches(name, [one for _, one in listed])]
    kernels = [name for name in names if matches(name, [one for why, one in listed if why == "kernel"])]
    chosen = plain if options.all else [name for name in plain if sampled(name, SAMPLE, SLOW)]
    part = [name for name in plain if matches(name, PART) and not matches(name, SLOW)]
    if options.short:
        chosen = [name for name in plain if matches(name, SHORT) and not matches(name, SLOW)]
        return {"root": (f"{ours} -- {suite}root --expect-backend=user", chosen)}
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --"
    found = {
        "kernel": (f"{suite}kernel --expect-backend=kernel", kernels),
        "root": (f"{ours} -- {suite}root --expect-backend=user", chosen),
        "nobody": (f"{nobody} {ours} -- {suite}nobody --expect-backend=user", part),
        "trap": (f"{ours} --trap=all -- {suite}trap --expect-backend=user", part),
        "library": ("tests/library/library user", None),
        "example": ("examples/demand-paging --backend=user /etc/passwd", None),
    }
    if any(one == "--trap=all" for _, one in listed):
        found["trap"] = ("! ./userfault run --trap=all -- true", None)
    if options.all:
        found["differential"] = ("tests/differential/difftest --count 100 --seed 1", None)
    return {name: (command, cases) for name, (command, cases) in found.items() if cases != []}


def divided(parts, part):
    """What the K of N of `part` has of them: every Nth case, and every Nth of what is no case."""
    first, count = (int(number) for number in part.split("/"))
    left = {name: (command, cases and cases[first - 1::count]) for name, (command, cases) in parts.items()}
    whole = [name for name, (_, cases) in parts.items() if cases is None][first - 1::count]
    return {name: one for name, one in left.items() if one[1] or name in whole}


def script_of(parts):
    # Files on a disk, which are not tmpfs; other tests than of the suite look for the build folder.
    lines = ["mount -o loop /disk /var/tmp && chmod 1777 /var/tmp", "cd /build",
             "echo release $(uname -r)"]
    for name, (command, _) in parts.items():
        lines += [f'echo "=== {name}"', command, f'echo "=== end {name} $?"']
    return "\n".join([*lines, ""]).encode()


def add_network(files, build, kernel):
    for command in NETWORK_COMMANDS:
        files.command(command)
    add_modules(files, kernel, NETWORK_MODULES)
    add_ours(files, build, NETWORK_OURS)
    files.add(os.path.join(build, "libuserfault-postcopy.so.0"), "/build/libuserfault-postcopy.so.0")


def add_modules(files, kernel, names):
    for module in names:
        for path in glob.glob(f"{kernel}/lib/modules/*/kernel/**/{module}.ko", recursive=True):
            files.add(path, f"/modules/{module}.ko")


def add_ours(files, build, names):
    for name in names:
        files.program(os.path.join(build, name), "/build/" + name, ours=build)


def machine(build, kernel, parts, work, network):
    """Returns the path of its first file system."""
    files = Initramfs()
    for folder, mode in (("/proc", 0o755), ("/sys", 0o755), ("/dev", 0o755), ("/tmp", 0o1777),
                         ("/var/tmp", 0o1777), ("/etc", 0o755)):
        files.folder(folder, mode)
    files.device("/dev/console", 0o600, 5, 1)
    init = os.path.join(work, "init")
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-O2", "-static", "-o", init, os.path.join(HERE, "init.c")],
                   check=True)
    files.add(init, "/init")
    for command in COMMANDS:
        files.command(command)
    files.add("/etc/passwd")
    # What libc loads by itself when a thread is cancelled.
    unwinder = subprocess.run([*compiler, "-print-file-name=libgcc_s.so.1"], stdout=subprocess.PIPE,
                              text=True, check=True).stdout.strip()
    files.add(os.path.realpath(unwinder), "/lib/x86_64-linux-gnu/libgcc_s.so.1")
    add_modules(files, kernel, MODULES)
    disk = os.path.join(work, "disk")
    with open(disk, "wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True,
                   env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    files.add(disk, "/disk")
    if network:
        add_network(files, build, kernel)
    else:
        add_ours(files, build, OURS)
    files.add(os.path.join(build, "libuserfault.so.0"), "/build/libuserfault.so.0")
    for name, (_, cases) in parts.items():
        if cases:
            files.text(f"/cases/{name}", ("\n".join(cases) + "\n").encode())
    files.text("/script", script_of(parts))
    path = os.path.join(work, "initramfs")
    with open(path, "wb") as file:
        file.write(files.bytes())
    return path


def run(kernel, initramfs, work, seconds, threads):
    """Yields what the script says, line by line, as it comes."""
    console = os.path.join(work, "console")
    command = [QEMU, "-accel", f"tcg,thread={threads}", "-cpu", "max", "-smp", "2", "-m", "2048",
               "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot",
               "-kernel", glob.glob(f"{kernel}/boot/vmlinuz-*")[0], "-initrd", initramfs,
               "-append", "console=ttyS0 panic=-1 mitigations=off",
               "-serial", f"file:{console}", "-serial", "stdio"]
    with subprocess.Popen(["timeout", "--foreground", str(seconds), *command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stdout:
            yield line.rstrip("\r\n")
    if process.returncode:
        with open(console, encoding="utf-8", errors="replace") as file:
            note("\n".join(file.read().splitlines()[-15:]))
        point(False, f"the machine ended by itself ({process.returncode})")


class Reader:
    """Makes points of what a section says."""

    def __init__(self, parts):
        self.parts = parts
        self.section, self.said = None, []
        self.left = {name: set(cases or ()) for name, (_, cases) in parts.items()}
        self.counts = {name: {"passed": 0, "failed": 0, "skipped": 0} for name in parts}

    def line(self, line):
        if line.startswith("release "):
            note(f"the kernel is {line[8:]}")
        elif line.startswith("=== end "):
            self.end(int(line.split()[-1]))
        elif line.startswith("=== "):
            self.section, self.said = line[4:], []
        elif self.section and (match := POINT.match(line)):
            self.one(not match[1], match[2])
            self.said = []
        elif self.section:
            self.said.append(line)

    def one(self, passed, text):
        name = text.split(" ")[0]
        skipped = "# SKIP" in text
        self.left[self.section].discard(name)
        self.counts[self.section]["skipped" if skipped else "passed" if passed else "failed"] += 1
        if self.section == "kernel":
            # The kernel's own facility answers so, too, or has not what the case asks for.
            point(not passed or skipped, f"{self.section}: fails there on the kernel's own: {name}")
            return
        if skipped and self.section.startswith("netem"):
            text, passed = text.replace("# SKIP", "was skipped:"), False
        if not passed and "# TODO" not in text:
            note("\n".join(self.said))
        point(passed, f"{self.section}: {text}")

    def end(self, status):
        section = self.section
        for name in sorted(self.left[section]):
            point(False, f"{section}: {name} was not reached")
        if self.parts[section][1] is None and (status or not any(self.counts[section].values())):
            if status:
                note("\n".join(self.said))
            point(status == 0, f"{section}: {self.parts[section][0]}")
        else:
            note(f"{section}: " + ", ".join(f"{n} {what}" for what, n in self.counts[section].items()))
        self.section = None
        del self.left[section]

    def finish(self):
        for section in self.left:
            point(False, f"{section}: was not reached, or not to its end")


def fetch(release, folder):
    done = subprocess.run([os.path.join(HERE, "kernel.sh"), release, folder],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        skip_all(done.stdout.strip().splitlines()[-1])
    if done.returncode:
        sys.exit(f"kernel.sh failed for {release}")


def asked():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--all", action="store_true")
    options.add_argument("--short", action="store_true")
    options.add_argument("--release", default="bookworm")
    options.add_argument("--part", default="1/1")
    options.add_argument("--cases")
    options.add_argument("--own", action="store_true")
    options.add_argument("--network", action="store_true")
    options.add_argument("build")
    return options.parse_args()


def main():
    options = asked()
    build = os.path.abspath(options.build)
    if not shutil.which(QEMU):
        skip_all(QEMU + " is not installed")
    if not shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        skip_all("mke2fs is not installed")
    for command in NETWORK_COMMANDS if options.network else ():
        if not shutil.which(command, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            skip_all(command + " is not installed")
    kernel = os.path.join(build, "old-kernel", options.release)
    fetch(options.release, kernel)
    # A release that nobody has looked at yet has no list.
    listed = listed_in(os.path.join(HERE, f"known-{options.release}.txt"))
    parts = divided(sections(build, listed, options), options.part)
    reader, began = Reader(parts), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="userfault-old-kernel-") as work:
        initramfs = machine(build, kernel, parts, work, options.network)
        threads = "multi" if options.network else "single"
        for line in run(kernel, initramfs, work, SECONDS[options.all], threads):
            reader.line(line)
    reader.finish()
    note(f"{time.monotonic() - began:.0f} s")
    return plan()


if __name__ == "__main__":
    sys.exit(main())
