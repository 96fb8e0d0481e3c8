#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds for aarch64 across and runs the conformance suite there, under qemu-user.

usage: tests/aarch64/run.py [--all] BUILD

What is built is put beside the build folder, in BUILD-aarch64. Cases that qemu-user cannot carry are
listed in known.txt with a limit of it; limits.c shows that the limit is one. All else has to pass.
--all also runs what is listed, but what takes the system's huge pages, and tells what of it passes;
without it, only the kinds of memory that differ most are run, which takes half a minute of one processor.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import tap
from cases import POINT, listed_in, matches, sampled
from tap import note, plan, point, skip_all

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
SYSTEM = "/usr/aarch64-linux-gnu/lib/libc.so.6"
TARGETS = ["libuserfault-preload.so", "userfault", "tests/conformance/conformance",
           "tests/aarch64/limits", "tests/aarch64/access"]
ZONE = ["src/libbase.a", "src/libarch.a", "src/libpaging.a", "src/libcore.a",
        "src/fault/libfault.a"]
SAMPLE = ("anon", "memfd-private", "memfd-shared")
# Slow under the emulator: make aarch64 runs them.
SLOW = ["bulk/*", "copy/let-go*", "race/*", "fork/race*", "thread/*", "signal/*-during-copy"]

def build(folder):
    """Without a warning. 0, or what went wrong has been printed."""
    steps = [["ninja", "-C", folder, *TARGETS]]
    if not os.path.exists(os.path.join(folder, "build.ninja")):
        steps.insert(0, ["meson", "setup", "--cross-file",
                         os.path.join(SOURCE, "tools/aarch64-linux-gnu.ini"), folder, SOURCE])
    for step in steps:
        done = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode or re.search(r"^\S+:\d+:\d+: warning:", done.stdout, re.M):
            note(done.stdout)
            return False
    return True


def emulate(folder, program, *args, **kwargs):
    return subprocess.run([*EMULATOR, *kwargs.pop("options", []), os.path.join(folder, program), *args],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)


def launcher_refuses(folder, what, text, *args, options=()):
    done = emulate(folder, "userfault", "run", *args, "true", options=options)
    good = done.returncode == 125 and text in done.stdout
    point(good, f"the launcher refuses {what}")
    if not good:
        note(done.stdout)


def points_of(folder, program, what):
    """Its points become ours. Returns what they are about."""
    names = []
    for line in emulate(folder, program).stdout.splitlines():
        if match := POINT.match(line):
            point(not match[1], f"{what}: {match[2]}")
            names.append(match[2])
    point(len(names) > 0, f"{program} has run")
    return set(names)


def limits(folder, listed):
    """Each limit is one, and none is named that is not shown."""
    shown = points_of(folder, "tests/aarch64/limits", "a limit of the emulator")
    for limit in sorted({limit for limit, _ in listed} - shown - {"slow"}):
        point(False, f"known.txt names a limit that nobody shows: {limit}")


def excused(name, listed):
    return next((limit for limit, glob in listed if matches(name, [glob])), None)


def run_cases(folder, names):
    """Yields name, passed, the rest of the line, and what was said before it."""
    preload = os.path.join(folder, "libuserfault-preload.so")
    with tempfile.NamedTemporaryFile("w", suffix=".cases") as file:
        file.write("\n".join(names) + "\n")
        file.flush()
        command = [*EMULATOR, "-E", f"LD_PRELOAD={preload}", "-E", "USERFAULT_BACKEND=user",
                   os.path.join(folder, "tests/conformance/conformance"), "--expect-backend=user",
                   "--named", file.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace") as process:
            said = []
            for line in process.stdout:
                if match := POINT.match(line):
                    name = match[2].split(" ")[0]
                    yield name, not match[1], match[2], said
                    said = []
                elif not line.startswith(("1..", "# backend")):
                    said.append(line)


def told_all_the_same(folder, names, listed):
    fine = [name for name, passed, text, _ in run_cases(folder, names)
            if passed and "# SKIP" not in text and "# TODO" not in text]
    for name in fine:
        note(f"passes all the same: {name} ({excused(name, listed)})")


def conformance(folder, listed, everything):
    names = [line.split()[0] for line in
             emulate(folder, "tests/conformance/conformance", "--list").stdout.splitlines()]
    plain = [name for name in names if not excused(name, listed)]
    chosen = plain if everything else [name for name in plain if sampled(name, SAMPLE, SLOW)]
    left = set(chosen)
    passes = skips = 0
    for name, passed, text, said in run_cases(folder, chosen):
        left.discard(name)
        skipped = "# SKIP" in text
        passes += passed and not skipped
        skips += skipped
        if not passed and "# TODO" not in text:
            note("".join(said))
        point(passed, text)
    for name in sorted(left):
        point(False, f"{name} was not reached")
    note(f"of {len(names)} cases {len(chosen)} were run: {passes} passed, {skips} were skipped; "
         f"{len(names) - len(plain)} are listed")
    if everything:
        told_all_the_same(folder, [name for name in names
                                   if excused(name, listed) not in (None, "hugetlb")], listed)


def main():
    everything = "--all" in sys.argv
    folder = os.path.abspath(sys.argv[-1]).rstrip("/") + "-aarch64"
    if not shutil.which(COMPILER):
        skip_all(f"no cross compiler ({COMPILER})")
    if not shutil.which(EMULATOR[0]) or not os.path.exists(SYSTEM):
        skip_all("no qemu-user, or no libc of aarch64 for it")
    listed = listed_in(os.path.join(HERE, "known.txt"))
    point(build(folder), "builds across, without a warning")
    if tap.failed:
        return plan()
    zone = subprocess.run([os.path.join(SOURCE, "tools/check-zone"),
                           *(os.path.join(folder, archive) for archive in ZONE)],
                          env={**os.environ, "CROSS": "aarch64-linux-gnu-"},
                          stdout=subprocess.PIPE, text=True)
    point(zone.returncode == 0, "the signal-safe zone keeps its rules")
    note(zone.stdout if zone.returncode else "")
    limits(folder, listed)
    points_of(folder, "tests/aarch64/access", "access")
    launcher_refuses(folder, "--trap=all", "only x86-64", "--trap=all")
    launcher_refuses(folder, "--deny-kernel without libseccomp", "without libseccomp", "--deny-kernel")
    launcher_refuses(folder, "--backend=user with pages of 64 KiB", "65536", "--backend=user",
                     options=["-p", "65536"])
    conformance(folder, listed, everything)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
