# SPDX-License-Identifier: MIT
"""An ssh server on a port of loopback, for as long as a test lasts: its keys are in a folder of the
test's, each connection is served by an `sshd -i`, and can be cut."""
import getpass
import os
import shutil
import socket
import subprocess
import threading

# What sshd insists on as root, and what a session may look at, in namespaces of its mounts alone.
AS_ROOT = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$@"',
           "sh"]


class Sshd:
    """`why`: it cannot be, for that reason; else `ssh` is a command that gets there."""

    def __init__(self, folder):
        self.folder, self.listener, self.connections, self.why = folder, None, [], None
        server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if not server or not shutil.which("ssh"):
            self.why = "no sshd and ssh (Debian: openssh-server, openssh-client)"
            return
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"], check=True)
        self.command = [*(AS_ROOT if os.getuid() == 0 else []), server, "-i", "-e", "-f", f"{folder}/config"]
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        with open(f"{folder}/host.pub", encoding="ascii") as key:
            self.write("known", f"[127.0.0.1]:{port} {key.read()}")
        self.ssh = ["ssh", "-F", "/dev/null", "-i", f"{folder}/user", "-p", str(port), "-o", "BatchMode=yes",
                    "-o", f"UserKnownHostsFile={folder}/known", "-o", "StrictHostKeyChecking=yes",
                    "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR",
                    f"{getpass.getuser()}@127.0.0.1"]
        threading.Thread(target=self.serve, daemon=True).start()
        for pam in ("no", "yes"):  # without it no account without a password is let in
            self.write("config", f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
                                 f"StrictModes no\nPermitRootLogin yes\nUsePAM {pam}\nPidFile none\n"
                                 "PrintLastLog no\nPrintMotd no\n")
            tried = subprocess.run([*self.ssh, "true"], stdin=subprocess.DEVNULL, capture_output=True,
                                   text=True, check=False)
            if tried.returncode == 0:
                return
        with open(f"{folder}/log", encoding="utf-8", errors="replace") as log:
            self.why = f"ssh to this machine fails: {' '.join((tried.stderr + log.read()).split())}"

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def serve(self):
        with open(f"{self.folder}/log", "ab") as log:
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                self.connections.append((connection, subprocess.Popen(
                    self.command, stdin=connection, stdout=connection, stderr=log)))

    def cut(self):
        """All connections that there are, and waits until who served them has ended."""
        connections, self.connections = self.connections, []
        for connection, process in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended
            connection.close()
            process.wait()

    def close(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self.cut()
