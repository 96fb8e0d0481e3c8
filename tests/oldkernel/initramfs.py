# SPDX-License-Identifier: MIT
"""The files of a small machine, in the format that Linux takes as its first file system (cpio, newc)."""
import os
import re
import shutil
import stat
import subprocess


class Initramfs:
    """add() and its kin fill it; bytes() is the archive. Folders come by themselves."""

    def __init__(self):
        self._out = bytearray()
        self._names = set()

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self._names.add(name)
        text = name.lstrip("/").encode() + b"\0"
        numbers = (len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(text), 0)
        self._out += b"070701" + b"".join(b"%08x" % number for number in numbers) + text
        self._pad()
        self._out += data
        self._pad()

    def _pad(self):
        self._out += bytes(-len(self._out) % 4)

    def folder(self, name, mode=0o755):
        if name not in ("/", "") and name not in self._names:
            self.folder(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | mode)

    def device(self, name, mode, major, minor):
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | mode, device=(major, minor))

    def text(self, name, data, mode=0o644):
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def add(self, source, name=None):
        name = name or source
        if name not in self._names:
            with open(source, "rb") as file:
                self.text(name, file.read(), stat.S_IMODE(os.stat(source).st_mode))

    def program(self, source, name, ours=None):
        """With the libraries that it needs, but for those below `ours`, which are added by name."""
        self.add(source, name)
        listed = subprocess.run(["ldd", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            if not ours or not library.startswith(ours):
                self.add(library)

    def command(self, name):
        """Of this system. Return: whether there is one."""
        path = shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin")
        if path:
            self.program(os.path.realpath(path), "/bin/" + name)
        return bool(path)

    def bytes(self):
        self._entry("TRAILER!!!", 0)
        return bytes(self._out)
