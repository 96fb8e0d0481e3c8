# SPDX-License-Identifier: MIT
"""Between two sides of a migration: connections to a unix socket are passed on, looked at, and cut."""
import itertools
import socket
import threading


class Relay(threading.Thread):
    """To be started; cut() breaks what goes by it, and what comes then is passed on as before."""

    def __init__(self, path, to, mark=None, cuts=()):
        super().__init__(daemon=True)
        self.to, self.mark, self.found = to, mark, False
        self.cuts, self.passed = list(cuts), 0  # after so many bytes, the places in order
        self.pairs, self.lock = [], threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)

    def run(self):
        while True:
            try:
                ends = [self.listener.accept()[0], socket.socket(socket.AF_UNIX)]
            except OSError:
                return  # close()
            try:
                ends[1].connect(self.to)
            except OSError:
                ends[0].close()
                continue
            with self.lock:
                self.pairs.append(ends)
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self.pass_on, args=(one, other), daemon=True).start()

    def pass_on(self, one, other):
        last = b""
        try:
            while data := one.recv(65536):
                if self.mark:
                    self.found |= self.mark in last + data
                    last = data[-len(self.mark):]
                with self.lock:
                    here = bool(self.cuts) and self.passed + len(data) > self.cuts[0]
                    if here:
                        data = data[:max(0, self.cuts.pop(0) - self.passed)]
                    self.passed += len(data)
                other.sendall(data)
                if here:  # what follows the gap must not pass, whoever cuts this one
                    self.cut()
                    return
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for end in itertools.chain(*pairs):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def close(self):
        """Nobody comes through any more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
