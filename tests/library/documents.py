#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What README, docs and man pages show is true: programs and pieces of C compile without a warning as
they are written there, and programs run; commands are typed into a shell as they are written, and do
what the page says. A block that is not known here is a failure: it has to be taken up.

Replaced are only words that a page has in capitals for the reader's own (HOST, PID), and "...".
(The examples of section 3 are run by manpages.sh.)

From meson: SOURCE, BUILD, CC."""
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left in the source tree
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, os.pardir)]
from blocks import blocks
from shell import INSIDE, PATIENCE, Shell, enter, lacks
from tap import plan, point, skip

SOURCE, BUILD = os.environ["SOURCE"], os.environ["BUILD"]
RIGHT = r"verified.* 0 wrong"
HOME, AWAY = "/tmp/here", "/tmp/there"  # two machines


class Page:
    """Its blocks, each to be taken once."""

    def __init__(self, name):
        self.name, self.left = name, blocks(os.path.join(SOURCE, name))

    def take(self, begin):
        """The one that is this, or begins so."""
        found = [block for block in self.left if block == begin] or \
            [block for block in self.left if block.startswith(begin)]
        if len(found) != 1:
            point(False, f"{self.name}: one block begins \"{begin}\"", "\n".join(self.left))
            return "false"
        self.left.remove(found[0])
        return found[0]

    def command(self, begin):
        """Without its prompt."""
        return re.sub(r"^\w*\$ ", "", self.take(begin))

    def lines(self, begin):
        """Those of a block that go on, as one each."""
        return re.split(r"(?<!\\)\n", self.take(begin))


# ------------------------------------------------------------------ C

# What a piece needs, by what its page says: headers, and objects that it names.
PIECE = """
#include <sys/ioctl.h>
#include <userfault/abi.h>
#include <userfault/postcopy.h>

void piece(int fd, void *start, size_t bytes, size_t page_bytes, const char *words, %s)
{
%s
}

int main(void)
{
    return 0;
}
"""
PIECES = {
    "man/userfault.7": [("struct uf_io_extend", "int unused")],
    "man/userfault-postcopy.7": [
        ("/* options.stop", "struct uf_source *source, struct uf_source_options options, "
                            "struct uf_postcopy_links links"),
        ("/* options.resume", "struct uf_sink *sink, struct uf_sink_options options, "
                              "struct uf_postcopy_links links"),
        ("struct uf_postcopy_tls_options", "struct uf_postcopy_tls *tls, "
                                           "struct uf_postcopy_links links")],
    "docs/lua-live.md": [("const struct uf_postcopy_tls_options", "int unused")],
}
PROGRAMS = {
    "README.md": [("#include", r"\Auserfault\n\Z")],
    "man/userfault-postcopy.7": [("#include", r"\Athe sink has page 2048: 2048\nthe source is done: 0\n\Z")],
}


def compiles(name, text, *more):
    with open("prog.c", "w", encoding="utf-8") as file:
        file.write(text + "\n")
    made = subprocess.run(
        [*os.environ["CC"].split(), "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-O2", *more,
         f"-I{SOURCE}/include", "-o", "prog", "prog.c", f"-L{BUILD}", "-luserfault-postcopy",
         "-luserfault", f"-Wl,-rpath,{BUILD}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False)
    point(made.returncode == 0, f"{name}: compiles", made.stdout)
    return made.returncode == 0


def check_c(page):
    for begin, names in PIECES.get(page.name, []):
        compiles(f"{page.name}: {begin}", PIECE % (names, page.take(begin)), "-Wno-unused-variable",
                 "-Wno-unused-but-set-variable", "-Wno-unused-but-set-parameter")
    for begin, says in PROGRAMS.get(page.name, []):
        if not compiles(f"{page.name}: {begin}", page.take(begin)):
            continue
        for backend in ("user", "auto"):
            ran = subprocess.run(["./prog"], env={**os.environ, "USERFAULT_BACKEND": backend}, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                 timeout=PATIENCE)
            point(ran.returncode == 0 and re.search(says, ran.stdout),
                  f"{page.name}: and runs, {backend}", f"{ran.returncode}: {ran.stdout}")


# ------------------------------------------------------------------ commands

def check_readme(page):
    made = subprocess.run([*page.take("make run").split(), "-n"], cwd=SOURCE, text=True,
                          env={**os.environ, "BUILD": BUILD}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    point(made.returncode == 0 and "tools/run-demo" in made.stdout, "README.md: make run", made.stdout)
    shell = Shell("README.md", HOME)
    demo, check, paging, manager, monitored = page.lines(
        "build/userfault run --backend=user --deny-kernel --stats")
    if not lacks(f"README.md: {demo}", "stress-ng"):
        shell.type(demo, "successful run completed")
    shell.type(check, "auto")
    shell.type(paging, "pages fetched")
    shell.type(manager)
    shell.run("until [ -S /tmp/sock ]; do :; done")  # who types is not that fast
    shell.type(monitored)
    check_guest(page.take("build/userfault run --backend=user --deny-kernel -- \\\n    qemu"))
    alone, send = page.lines("build/userfault memcp --size=1G")
    shell.type(alone, RIGHT)
    point(os.path.getsize(f"{HOME}/memcp.svg") > 1000, "README.md: and a picture")
    there = Shell("README.md", AWAY)
    there.begin(re.search(r"# there: (.*)", send).group(1))
    there.expect("listening")
    shell.type(send.replace("HOST", "127.0.0.1"), RIGHT)
    there.ends(RIGHT)


def check_guest(command):
    if lacks("README.md: QEMU", "qemu-system-x86_64"):
        return
    shell = Shell("README.md", HOME)
    shell.type(command.replace("...", "-display none -monitor none -serial none") + " &")
    # Port 4444. What it says of the signal must not come between the shell's words.
    shell.type("until grep -q ':115C .* 0A ' /proc/net/tcp || ! kill -0 $!; do :; done; "
               "kill $! && { wait $! || :; }")


def check_memcp(page):
    here, there = Shell(page.name, HOME), Shell(page.name, AWAY)
    here.type(page.command("$ userfault memcp --size=1G"), RIGHT)
    there.begin(page.command("there$ userfault memcp receive --listen=tcp::7777"))
    there.expect("listening")
    here.type(page.command("here$ userfault memcp send --to=tcp:there:7777 --size"), RIGHT)
    there.ends(RIGHT)
    point(os.path.getsize(f"{HOME}/memcp.svg") > 1000 and os.path.getsize(f"{HOME}/link.svg") > 1000,
          f"{page.name}: pictures")
    keys, receive, send = (page.command(begin) for begin in ("$ psktool", "there$", "here$"))
    if not lacks(f"{page.name}: {keys}", "psktool"):
        here.type(keys)
        there.begin(receive)
        there.expect("listening")
        here.type(send, RIGHT)
        there.ends(RIGHT)
    here.type(page.command("$ userfault memcp send --to='exec:ssh"), RIGHT)
    latency = page.command("$ userfault memcp --size=16M")
    if not lacks(f"{page.name}: {latency}", "jq"):
        here.type(latency, r"^\d+$")


def check_launcher(page):
    shell = Shell(page.name, HOME)
    with open(f"{HOME}/program", "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nexec {BUILD}/examples/demand-paging {SOURCE}/README.md\n")
    os.chmod(f"{HOME}/program", 0o755)
    demo = page.command("$ userfault run --backend=user --deny-kernel")
    if not lacks(f"{page.name}: {demo}", "stress-ng"):
        shell.type(demo)
    check = page.command("$ userfault check")
    if not lacks(f"{page.name}: {check}", "jq"):
        shell.type(check, r"^(user|kernel)$")
    shell.type(page.command("$ userfault run --log"), "pages fetched")
    point(os.path.exists(f"{HOME}/refused.log") and os.path.getsize(f"{HOME}/faults.json") > 0,
          f"{page.name}: and both files")
    device = page.command("$ userfault run --backend=user --policy")
    if os.environ[INSIDE] == "0":
        shell.type(device, "pages fetched")
    else:
        skip(f"{page.name}: {device}", "who runs it is no root, and perhaps no member")


def check_lua_live(page):
    here, there = Shell(page.name, HOME), Shell(page.name, AWAY)
    lines = page.lines("build/examples/lua-live run --serve")
    send, ask = page.take("build/examples/lua-live send $program"), page.take("echo status | socat")
    receive, far = page.lines("ip netns exec there")
    page.take("migration's thread")  # a drawing
    if not os.path.exists(os.path.join(BUILD, "examples/lua-live")):
        skip(f"{page.name}: commands", "lua-live is not built: no Lua")
        return
    here.type("\n".join(lines))
    here.expect("runs it", "receives at")
    mute = lacks(f"{page.name}: {ask}", "socat")
    if not mute:
        here.type(ask, r"\d")
    here.type(send)
    here.type("wait $program", status=10)  # "the first process ends with status 10"
    here.expect(r"lua-live: \d+ runs it")
    if not mute:
        here.type(ask, r"\d")
    if there.run("""ip netns add here && ip netns add there &&
ip link add eth0 netns here type veth peer name eth0 netns there &&
ip -n here addr add 10.0.0.1/24 dev eth0 && ip -n there addr add 10.0.0.2/24 dev eth0 &&
ip -n here link set eth0 up && ip -n there link set eth0 up"""):
        skip(f"{page.name}: {receive}", f"no namespaces with names: {there.seen}")
        return
    there.begin(receive)
    there.expect("receives at")
    here.type("ip netns exec here build/examples/lua-live run examples/lua-live/ledger.lua 20 &")
    pid = here.expect(r"lua-live: (\d+) runs it")
    here.type(far.replace("PID", pid.group(1) if pid else "0"))
    there.expect("runs it")


COMMANDS = {"README.md": check_readme, "man/userfault-memcp.1": check_memcp,
            "man/userfault.1": check_launcher, "docs/lua-live.md": check_lua_live}
DRAWINGS = {"bench/README.md": ["userfault-bench   the driver"]}


def make_machines():
    """Two folders, and ssh and scp between them."""
    os.makedirs("/tmp/bin")
    for name, script in (
            ("ssh", 'test "$1" = there && shift && cd /tmp/there && exec sh -c "$*"'),
            ("scp", 'test "$2" = there: && exec cp "$1" /tmp/there')):
        with open(f"/tmp/bin/{name}", "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"/tmp/bin/{name}", 0o755)
    os.environ["PATH"] = f"/tmp/bin:{BUILD}:{os.environ['PATH']}"
    for folder in (HOME, AWAY):
        os.makedirs(folder)
        os.symlink(BUILD, f"{folder}/build")
        for name in ("README.md", "examples"):
            os.symlink(os.path.join(SOURCE, name), f"{folder}/{name}")


def check(page, commands):
    check_c(page)
    for begin in DRAWINGS.get(page.name, []):
        page.take(begin)
    if commands and page.name in COMMANDS:
        COMMANDS[page.name](page)
    if commands or page.name not in COMMANDS:
        point(not page.left, f"{page.name}: no other block", "\n".join(page.left))


def main():
    why = enter(SOURCE, BUILD)
    pages = [Page(os.path.relpath(path, SOURCE)) for pattern in ("*.md", "bench/*.md", "docs/*.md", "man/*.[17]")
             for path in sorted(glob.glob(os.path.join(SOURCE, pattern)))]
    with tempfile.TemporaryDirectory(prefix="userfault-test.") as folder:
        os.chdir(folder)
        if why:
            skip("commands", why)
        else:
            make_machines()
        for page in pages:
            check(page, not why)
        os.chdir("/")
    return plan()


if __name__ == "__main__":
    sys.exit(main())
