"""Servers that are mistaken for a Redis, and a Redis gone mad: each listens on a unix socket and plays one part.

    with StrangeRedis(path, "greets") as strange:
        ...
        strange.connections    # how many have come

STRANGERS are no Redis; MAD ones answer well until something is written; PARTS are both."""
import contextlib
import os
import socket
import threading
import time

INFO = b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\ncluster_enabled:0\r\nmaxmemory:0\r\n"
INFO = b"$%d\r\n%s\r\n" % (len(INFO), INFO)
CHUNK = 1 << 16


class Gone(Exception):
    """The other side has closed, or the test is over."""


class Peer:
    def __init__(self, server, connection):
        self.server, self.connection, self.rest = server, connection, b""
        connection.settimeout(0.1)

    def read(self):
        """Some bytes, as they come."""
        while not self.server.over:
            with contextlib.suppress(TimeoutError):
                data = self.connection.recv(CHUNK)
                if not data:
                    raise Gone
                return data
        raise Gone

    def send(self, data):
        view = memoryview(data)
        while view:
            if self.server.over:
                raise Gone
            with contextlib.suppress(TimeoutError):
                view = view[self.connection.send(view):]

    def line(self):
        while b"\r\n" not in self.rest:
            self.rest += self.read()
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line

    def command(self):
        """The words of the next command; long ones are not kept."""
        words = []
        for _ in range(int(self.line()[1:])):
            size = int(self.line()[1:]) + 2
            while len(self.rest) < size:
                self.rest += self.read()
            words.append(self.rest[:min(size - 2, 64)])
            self.rest = self.rest[size:]
        return words

    def endless(self, data):
        data *= max(1, CHUNK // len(data))
        while True:
            self.send(data)

    def drip(self, data):
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(0.02)
        self.silent()

    def silent(self):
        while not self.server.over:
            time.sleep(0.02)

    def answers(self, answer):
        """A Redis to all appearances, until something is written: then answer()."""
        while True:
            word = self.command()[0].upper()
            if word == b"EVAL":
                answer()
            else:
                self.send(INFO if word == b"INFO" else b"+OK\r\n")


def pop3(p):
    p.send(b"+OK POP3 server ready\r\n")
    while True:
        p.read()
        p.send(b"-ERR unknown command\r\n")


STRANGERS = {
    # before anything is asked
    "greets": pop3,
    "speaks ssh": lambda p: (p.send(b"SSH-2.0-OpenSSH_9.2p1\r\n"), p.silent()),
    "streams replies": lambda p: p.endless(b"+OK\r\n"),
    "streams garbage": lambda p: p.endless(os.urandom(4096)),
    "hangs up": lambda p: None,
    "is silent": lambda p: p.silent(),
    # to the first question
    "speaks http": lambda p: (p.read(), p.send(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")),
    "promises an array": lambda p: (p.read(), p.send(b"*2147483647\r\n"), p.endless(b":1\r\n")),
    "promises a string": lambda p: (p.read(), p.send(b"$400000000000\r\n"), p.endless(b"x" * 4096)),
    "sends a line without end": lambda p: (p.read(), p.endless(b"+xxxxxxxxxxxxxxx")),
    "nests arrays": lambda p: (p.read(), p.endless(b"*1\r\n")),
    "drips": lambda p: (p.read(), p.drip(b"$100000\r\n" + b"x" * 100000)),
}
MAD = {  # a Redis to all appearances, but for what it answers to a write
    "answers twice": lambda p: p.answers(lambda: p.send(b"+OK\r\n+OK\r\n")),
    "answers with an array": lambda p: p.answers(lambda: p.send(b"*2147483647\r\n")),
    "answers with a long string": lambda p: p.answers(lambda: p.endless(b"$400000000000\r\nxxxxxxxxxxxxxxxxxx")),
    "answers in drips": lambda p: p.answers(lambda: p.drip(b"+" + b"x" * 100000)),
    "stops reading": lambda p: p.answers(p.silent),
    "moves": lambda p: p.answers(lambda: p.send(b"-MOVED 866 10.0.0.7:6381\r\n")),
    "invents errors": lambda p: p.answers(lambda: p.send(b"-%s \"x\" \x1b[2J\r\n" % bytes(65 + b % 26 for b in os.urandom(6)))),
}
PARTS = {**STRANGERS, **MAD}


class StrangeRedis:
    def __init__(self, path, part):
        self.path, self.part, self.over, self.connections = path, PARTS[part], False, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.listener.settimeout(0.05)
        self.threads = [threading.Thread(target=self.listen)]
        self.threads[0].start()

    def listen(self):
        while not self.over:
            with contextlib.suppress(TimeoutError):
                connection, _ = self.listener.accept()
                self.connections += 1
                self.threads.append(threading.Thread(target=self.play, args=(connection,)))
                self.threads[-1].start()

    def play(self, connection):
        with connection, contextlib.suppress(Gone, OSError, ValueError):
            self.part(Peer(self, connection))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()
        self.listener.close()
        os.unlink(self.path)
