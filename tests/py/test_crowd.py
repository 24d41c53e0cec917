#!/usr/bin/env python3
"""Those who connect and do not behave: subscribers that never read, connections that say nothing, more of them than there are
descriptors. What is asserted is memory, and that everybody else is served; never how fast. Ends with "N passed, M failed"."""
import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import numpy as np
import zmq

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire_client as wire
from wire_client import ACK, PING, PONG, STATS

BUILD = os.environ.get("BUILD", "build")
PATIENCE_S = 60.0  # before a wait counts as failed
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DECANT_")}
MIB = 1 << 20


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            value = condition()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError("waited in vain for " + what)


class Server:
    """A prototype server on addresses of its own; descriptors: how many it may have."""

    def __init__(self, directory, descriptors=None, **settings):
        self.out = os.path.join(directory, "out")
        self.path = os.path.join(directory, "log")
        settings = {"run.name": "crowd", "run.out": self.out, "run.slots": 1, "run.slot_size": 8, "run.steps": 1000000,
                    "mixture.components": 32, "mixture.dimensions": 8, "loss.block": 32, "data.limit": 64,
                    "net.prototype": "tcp://127.0.0.1:*", "net.prototype_publish": "tcp://127.0.0.1:*",
                    "metrics.prototype": "127.0.0.1:0", **settings}
        arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        limit = None
        if descriptors:
            limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        with open(self.path, "w") as log:
            self.process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", *arguments], stderr=log, env=ENVIRONMENT,
                                            preexec_fn=limit)
        try:
            self.requests, self.publish = self.logged(r"requests=(\S+) publi\w+=(\S+)").groups()
            self.port = int(self.logged(r"event=metrics port=(\d+)").group(1))
        except AssertionError:
            self.process.kill()
            raise

    def log(self):
        return pathlib.Path(self.path).read_text()

    def logged(self, pattern):
        return wait_for(f"{pattern!r} in the log", lambda: re.search(pattern, self.log()))

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.M).group(1))

    def peak_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


@contextlib.contextmanager
def server(**settings):
    with tempfile.TemporaryDirectory(prefix="decant-crowd-") as directory:
        s = Server(directory, **settings)
        try:
            yield s
            s.process.send_signal(signal.SIGTERM)
            assert s.process.wait(PATIENCE_S) == 0
        except Exception:
            print(s.log()[-3000:])
            raise
        finally:
            s.process.kill()
            s.process.wait()


def connect(endpoint, receive_bytes=None, host=1):
    """A plain TCP connection to it, from 127.0.0.HOST."""
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.bind((f"127.0.0.{host}", 0))
    s.connect(("127.0.0.1", int(endpoint.rsplit(":", 1)[1])))
    return s


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB"


def stalled_subscriber(endpoint, topic):
    """Shakes hands and subscribes by hand, and never reads another byte."""
    s = connect(endpoint, receive_bytes=4096)
    s.sendall(GREETING)
    receive_all(s, len(GREETING))
    s.sendall(READY)
    receive_all(s, receive_all(s, 2)[1])
    s.sendall(bytes([0, 1 + len(topic), 1]) + topic)
    return s


def receive_all(s, size):
    got = b""
    while len(got) < size:
        more = s.recv(size - len(got))
        assert more, "the server hung up"
        got += more
    return got


def spread(components, dimensions):
    """Statistics that touch every component, so that every version of the mixture is published whole."""
    h = np.eye(2, dimensions, dtype=np.float32)
    return wire.dense(h, np.full((2, components), 1 / components))


# ---- subscribers that never read ----

def test_subscribers_that_never_read_pin_a_bounded_amount():
    K, D, SUBSCRIBERS, STEPS_EACH = 2048, 128, 60, 8  # a version has 2 MiB: together they could pin nearly 1 GB
    with server(**{"mixture.components": K, "mixture.dimensions": D, "loss.block": 64, "mixture.reseed_usage": 0}) as s:
        with contextlib.closing(wire.Client(s.requests, timeout_s=PATIENCE_S)) as client:
            client.hello()
            message = spread(K, D)
            step, subscribers = 0, []
            assert client.request(STATS, step=step, slots=1, **message).type == ACK
            before = s.peak_bytes()
            for _ in range(SUBSCRIBERS):
                subscribers.append(stalled_subscriber(s.publish, b"mixture"))
                for _ in range(STEPS_EACH):
                    step += 1
                    answer = client.request(STATS, step=step, slots=1, **message)
                    assert answer.type == ACK and answer.code == wire.APPLIED, answer.header
            after = s.peak_bytes()
            print(f"      peak memory {before // MIB} MiB before, {after // MIB} MiB after {SUBSCRIBERS} stalled subscribers")
            assert after - before < 400 * MIB, (before, after)
            with contextlib.closing(wire.Subscriber(s.publish, "mixture")) as reader:  # who reads is served again
                deadline = time.monotonic() + PATIENCE_S
                got = None
                while got is None and time.monotonic() < deadline:
                    step += 1
                    assert client.request(STATS, step=step, slots=1, **message).type == ACK
                    got = reader.receive(0.2)
                assert got is not None, "no publication for a reader"
            wait_for("the stalled ones to be cut", lambda: s.metric('decant_connections_cut_total{cause="stalled"}') > 0)
            for one in subscribers:
                one.close()


# ---- more connections than descriptors ----

def everybody_is_served(s, steps):
    assert '"status":"ok"' in wait_for("/healthz", lambda: s.get("/healthz"))
    with contextlib.closing(wire.Client(s.requests, timeout_s=PATIENCE_S)) as client:
        client.hello()
        for step in range(*steps):
            answer = client.request(STATS, step=step, slots=1, **wire.factored(np.eye(2, 8, dtype=np.float32), np.eye(2, 32)))
            assert answer.type == ACK and answer.code == wire.APPLIED, answer.header
        assert client.request(PING).type == PONG
    newest = os.path.join(s.out, "checkpoints", f"step-{steps[1]:06d}", "mixture.safetensors")
    wait_for("a checkpoint", lambda: os.path.exists(newest))


def crowd(s, hosts):
    """Six hundred silent connections to each socket, which stay."""
    return [connect(endpoint, host=host) for i in range(600) for endpoint in (s.requests, s.publish)
            for host in (hosts[i % len(hosts)],)]


def test_silent_connections_leave_descriptors_for_everybody_else():
    with server(descriptors=256, **{"run.checkpoint_every": 5}) as s:
        everybody_is_served(s, (0, 5))
        for hosts, steps in (((1,), (5, 10)), (range(2, 100), (10, 15))):
            silent = crowd(s, hosts)
            everybody_is_served(s, steps)
            assert s.metric("process_open_fds") < 256
            for one in silent:
                one.close()
        assert s.metric('decant_connections_cut_total{cause="crowd"}') > 0
        assert "checkpoint_failed" not in s.log()
        everybody_is_served(s, (15, 20))


def test_silent_connections_with_keys_too():
    with tempfile.TemporaryDirectory(prefix="decant-crowd-keys-") as directory:
        keys = os.path.join(directory, "keys")
        subprocess.run([f"{BUILD}/bin/decant", "keygen", "--out", keys], check=True, capture_output=True, env=ENVIRONMENT)
        read = lambda name: pathlib.Path(keys, name).read_text().strip().encode()
        with server(descriptors=256, **{"keys.directory": keys}) as s:
            silent = crowd(s, (1, 2, 3))
            with contextlib.closing(wire.Client(s.requests, PATIENCE_S, (read("worker.pub"), read("worker.key"),
                                                                         read("prototype.pub")))) as client:
                client.hello()
                assert client.request(PING).type == PONG
            wait_for("silent ones to make room", lambda: s.metric('decant_connections_cut_total{cause="crowd"}') > 0)
            assert '"status":"ok"' in wait_for("/healthz", lambda: s.get("/healthz"))
            for one in silent:
                one.close()


def test_too_few_descriptors_are_said_at_the_start():
    for program in ("decant-prototype", "decant-parameter", "decant-worker"):
        done = subprocess.run([f"{BUILD}/bin/{program}"], capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
        assert done.returncode == 2 and "ulimit -n" in done.stderr and "is 40" in done.stderr, done


def test_too_little_address_space_is_said_at_the_start():
    for program in ("decant-prototype", "decant-parameter", "decant-worker"):
        done = subprocess.run([f"{BUILD}/bin/{program}"], capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (200 * MIB, 200 * MIB)))
        assert done.returncode == 2 and "ulimit -v" in done.stderr and "is 200 MiB" in done.stderr, done


def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            test()
            print("ok  ", name, flush=True)
        except Exception:  # whatever went wrong is that test's failure; the others still run
            failed += 1
            print("FAIL", name)
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
