# SPDX-License-Identifier: MIT
"""Between two sides of a migration: connections to a unix socket are passed on, looked at, and cut."""
import itertools
import socket
import struct
import threading


class Relay(threading.Thread):
    """To be started; cut() breaks what goes by it, and what comes then is passed on as before.

    sent: by the caller, on each link of his first set, by the index that he names. lose: a link, and
    behind how many of these bytes all is cut."""

    def __init__(self, path, to, mark=None, cuts=(), lose=(None, 0)):
        super().__init__(daemon=True)
        self.to, self.mark, self.found = to, mark, False
        self.cuts, self.passed = list(cuts), 0  # after so many bytes, the places in order
        self.pairs, self.lock = [], threading.Lock()
        self.sent, self.lose = {}, lose
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
                threading.Thread(target=self.pass_on, args=(one, other, one is ends[0]),
                                 daemon=True).start()

    def count(self, link, data):
        """Return: the link's number, how much of this may pass, whether all is cut then."""
        if link is None:
            if len(data) < 48:
                return -1, len(data), False  # none of memcp's
            link = struct.unpack_from("<Q", data, 24)[0]
            if link in self.sent:
                return -1, len(data), False  # it is made again
            self.sent[link] = 0
        self.sent[link] += len(data)
        over = self.sent[link] - self.lose[1]
        here = link == self.lose[0] and over > 0
        if here:
            self.lose = (None, 0)
        return link, len(data) - over if here else len(data), here

    def pass_on(self, one, other, counted):
        last, link = b"", None if counted else -1
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
                    if link != -1 and not here:
                        link, good, here = self.count(link, data)
                        data = data[:good]
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
