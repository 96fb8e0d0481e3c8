#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""In a container, where userfaultfd is forbidden: runc, a user namespace of its own, the default
seccomp profile and the default capabilities of Debian's container tools, nothing added. Programs
get the facility from `userfault run` there, and the conformance suite passes."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
from tap import plan, point

BUILD = os.environ["BUILD"]
LAUNCHER = os.path.join(BUILD, "userfault")
DEMO = os.path.join(BUILD, "tests", "programs", "manpage_demo")
ON_OURS = [LAUNCHER, "run", "--backend=user", "--"]
PROFILE = "/usr/share/containers/seccomp.json"
DEFAULTS = "/usr/share/containers/containers.conf"
MACHINE = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
PATIENCE = 900  # seconds; only a failure takes that long
FIRST_ID, IDS = 100000, 65536  # users and groups of the container, as numbered outside
NAME = f"userfault-test-{os.getpid()}"


def applies(rule, arch, capabilities):
    """Whether the profile has the rule for such a container; minKernel is met by all that we run on."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    return (arch in includes.get("arches", [arch]) and arch not in excludes.get("arches", []) and
            set(includes.get("caps", [])) <= capabilities and
            not set(excludes.get("caps", [])) & capabilities)


def filter_of(profile, capabilities):
    """The profile, which has conditions, as runc wants it, without."""
    arch, native = MACHINE[os.uname().machine]
    rules = []
    for rule in profile["syscalls"]:
        if applies(rule, arch, capabilities):
            keys = ("names", "action", "errnoRet", "args")
            rules.append({key: rule[key] for key in keys if rule.get(key) is not None})
    other = next(entry for entry in profile["archMap"] if entry["architecture"] == native)
    return {"defaultAction": profile["defaultAction"],
            "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": [native, *other["subArchitectures"]], "syscalls": rules}


def default_capabilities():
    with open(DEFAULTS, encoding="utf-8") as file:
        listed = re.search(r"^default_capabilities = \[(.*?)\]", file.read(), re.S | re.M)
    return {"CAP_" + name for name in re.findall(r'"(\w+)"', listed[1])}


def mount(to, kind, *options, source=None):
    return {"destination": to, "type": kind, "source": source or kind, "options": list(options)}


def host_folder(path):
    return mount(path, "none", "rbind", "ro", "nosuid", "nodev", source=path)


def config(root, args):
    """Namespaces, mounts and hidden paths as container engines have them."""
    with open(PROFILE, encoding="utf-8") as file:
        profile = json.load(file)
    capabilities = default_capabilities()
    ids = [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]
    names = sorted(capabilities)
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/tmp",
                    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp"],
                    "capabilities": {kind: names for kind in ("bounding", "effective",
                                                              "permitted")}},
        "root": {"path": root, "readonly": True},
        "hostname": "container",
        "mounts": [
            mount("/proc", "proc"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
                  "mode=0620"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777"),
            mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "none", "rbind", "nosuid", "noexec", "nodev", "ro", source="/sys"),
            mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
            *(host_folder(path) for path in ("/usr", "/etc", BUILD))],
        "linux": {
            "uidMappings": ids, "gidMappings": ids,
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network",
                                                       "user", "cgroup")],
            "seccomp": filter_of(profile, capabilities),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                              "/proc/sysrq-trigger"]}}


class Bundle:
    """A folder with what runc needs; the container's own root is empty but for links."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="userfault-test.")
        self.path = self.folder.name
        os.chmod(self.path, 0o755)
        root = os.path.join(self.path, "root")
        os.mkdir(root)
        os.chown(root, FIRST_ID, FIRST_ID)  # runc makes what is mounted upon
        for name in ("bin", "sbin", "lib", "lib64"):
            if os.path.islink("/" + name):
                os.symlink("usr/" + name, os.path.join(root, name))
        return self

    def __exit__(self, *_):
        subprocess.run(["runc", "delete", "--force", NAME], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.folder.cleanup()

    def run(self, *args):
        """Exit status, and what the program said."""
        with open(os.path.join(self.path, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config(os.path.join(self.path, "root"), list(args)), file)
        done = subprocess.run(["runc", "run", "--bundle", self.path, NAME], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=PATIENCE)
        return done.returncode, done.stdout


def end_of(said):
    return "\n# ".join(said.splitlines()[-20:])


def try_denied(bundle):
    """Without ours: the kernel's facility is forbidden there."""
    code, said = bundle.run(DEMO, "2")
    point(code and "userfaultfd: Operation not permitted" in said, "userfaultfd gets EPERM",
          end_of(said))
    code, said = bundle.run("grep", "-E", "^(CapEff|Seccomp|NoNewPrivs):", "/proc/self/status")
    point(re.search(r"^Seccomp:\s*2$", said, re.M), "the filter is in force", end_of(said))
    granted = int(re.search(r"^CapEff:\s*(\w+)$", said, re.M)[1], 16)
    # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE
    point(not granted & (1 << 19 | 1 << 21 | 1 << 24), "no capability was added", hex(granted))


def try_demo(bundle):
    code, said = bundle.run(*ON_OURS, DEMO, "2")
    point(code == 0, "the example of userfaultfd(2) runs on ours", end_of(said))


def try_stress(bundle):
    if not shutil.which("stress-ng"):
        point(True, "stress-ng # SKIP it is not installed")
        return
    _, said = bundle.run(*ON_OURS, "stress-ng", "--userfaultfd", "2", "--verify",
                         "--metrics-brief", "-t", "2")
    good = re.search(r"userfaultfd +[1-9][0-9]* ", said) and "successful run completed" in said
    point(good and not re.search(r"fail:|error:|skipped|No stress workers", said),
          "stress-ng runs on ours", end_of(said))


def try_conformance(bundle):
    """Each of its points is one of ours."""
    code, said = bundle.run(*ON_OURS, os.environ["CONFORMANCE"], "--expect-backend=user")
    bad = re.findall(r"^not ok \d+ - (?!.*# TODO).*", said, re.M)
    good = re.findall(r"^ok (?!.*# SKIP)", said, re.M)
    planned = re.search(r"^1\.\.(\d+)", said, re.M)
    counted = len(re.findall(r"^(?:not )?ok \d", said, re.M))
    whole = planned and int(planned[1]) == counted
    for line in said.splitlines() if bad or code or not whole else []:
        print("# " + line)
    point(code == 0 and not bad and whole and len(good) > counted // 2,
          f"the conformance suite on ours: {len(good)} cases", f"{len(bad)} failed, {code}")


def reason_to_skip():
    if os.geteuid() != 0:
        return "needs root, to start containers"
    for path in (PROFILE, DEFAULTS):
        if not os.path.exists(path):
            return path + " is not installed"
    if not shutil.which("runc"):
        return "runc is not installed"
    if os.uname().machine not in MACHINE:
        return "no seccomp profile for this machine"
    if not all(os.path.islink(path) for path in ("/bin", "/lib")):
        return "/bin and /lib are not in /usr"
    with Bundle() as bundle:
        code, said = bundle.run("true")
        if code:
            return "runc cannot start a container here: " + said.strip().replace("\n", " ")
        if bundle.run("test", "-x", LAUNCHER)[0]:
            return "the build folder cannot be reached from a user namespace"
    return None


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reason = reason_to_skip()
    if reason:
        print(f"1..0 # SKIP {reason}")
        return 0
    with Bundle() as bundle:
        try_denied(bundle)
        try_demo(bundle)
        try_stress(bundle)
        try_conformance(bundle)
    return plan()


if __name__ == "__main__":
    sys.exit(main())
