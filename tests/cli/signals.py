#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Signals and job control: with --stats the launcher stays, and nobody may see a difference."""
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from tap import plan, point

LAUNCHER = os.path.join(os.environ["BUILD"], "userfault")
PROBE = os.environ["PROBE"]
PATIENCE = 60  # seconds; only a failure takes that long


def start(options, *program, **more):
    return subprocess.Popen([LAUNCHER, "run", *options, "--", *program], text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, **more)


def passed_on(options, number):
    """A signal to the launcher reaches the program, and only once."""
    with start(options, PROBE, "wait") as launcher:
        launcher.stdout.readline()
        launcher.send_signal(number)
        said = launcher.stdout.read().strip()
        launcher.wait(PATIENCE)
    point(said == str(int(number)) and launcher.returncode == 0,
          f"{signal.Signals(number).name} is passed on {options}", (said, launcher.returncode))


def ends_by(options, number):
    with start(options, PROBE, "die", str(int(number))) as launcher:
        launcher.wait(PATIENCE)
    point(launcher.returncode == -number, f"ends by {signal.Signals(number).name} {options}",
          launcher.returncode)


def core_is_single():
    name = "a core is the program's own"
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as pattern:
        if pattern.read(1) in "|/":
            point(True, name + " # SKIP cores do not go to the current folder here")
            return
    unlimited = (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2

    def cores_allowed():
        resource.setrlimit(resource.RLIMIT_CORE, unlimited)

    with tempfile.TemporaryDirectory() as folder:
        with start(["--stats"], PROBE, "die", str(int(signal.SIGABRT)), cwd=folder,
                   preexec_fn=cores_allowed) as launcher:
            launcher.wait(PATIENCE)
        cores = os.listdir(folder)
    # Where cores are not limited to none there is exactly the program's.
    point(len(cores) == (1 if unlimited[1] != 0 else 0), name, cores)


def dies_with_launcher():
    with start(["--stats"], PROBE, "wait") as launcher:
        launcher.stdout.readline()
        launcher.kill()
        rest = launcher.stdout.read()  # comes back once the program is gone as well
        launcher.wait(PATIENCE)
    point(rest == "", "the program does not outlive a killed launcher", rest)


def stops_together():
    """A stop by the terminal is a stop of the job; continuing the launcher continues both."""
    with start(["--stats"], PROBE, "stop", str(int(signal.SIGTSTP)),
               preexec_fn=os.setpgrp) as launcher:
        _, status = os.waitpid(launcher.pid, os.WUNTRACED)
        stopped = os.WIFSTOPPED(status)
        if stopped:
            launcher.send_signal(signal.SIGCONT)
            launcher.wait(PATIENCE)
        said = launcher.stdout.read().strip()
    point(stopped and said == "continued" and launcher.returncode == 0,
          "stops and continues with the program", (stopped, said, launcher.returncode))


def inherited(name, prepare, line):
    """The program is started with the mask and dispositions that the launcher was started with."""
    grep = start(["--stats"], "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status",
                 preexec_fn=prepare)
    said, _ = grep.communicate(timeout=PATIENCE)
    # What posix_spawn started (make does so) ignores the two signals that libc keeps for itself.
    said = re.sub(r"(?<=SigIgn:\t)\w+", lambda word: f"{int(word[0], 16) & ~(3 << 31):016x}", said)
    point(line in said.split("\n"), name, said)


def bits(*numbers):
    return f"{sum(1 << (number - 1) for number in numbers):016x}"


def ignore_chld():
    # Python ignores two for itself, a shell two more of what it runs in the background, nohup one.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def main():
    for options in ([], ["--stats"]):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1,
                       signal.SIGCONT, signal.SIGWINCH, signal.SIGSEGV, signal.SIGRTMIN):
            passed_on(options, number)
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMAX):
            ends_by(options, number)
    core_is_single()
    dies_with_launcher()
    stops_together()
    inherited("a mask is inherited",
              lambda: signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2, signal.SIGCHLD]),
              "SigBlk:\t" + bits(signal.SIGUSR2, signal.SIGCHLD))
    inherited("an empty mask too", lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []),
              "SigBlk:\t" + bits())
    inherited("an ignored SIGCHLD too", ignore_chld, "SigIgn:\t" + bits(signal.SIGCHLD))
    return plan()


if __name__ == "__main__":
    if not os.access(LAUNCHER, os.X_OK):
        print("1..0 # SKIP the launcher is not built")
        sys.exit(0)
    os.environ["USERFAULT_PRELOAD"] = os.environ["STUB"]
    os.environ.pop("LD_PRELOAD", None)
    sys.exit(main())
