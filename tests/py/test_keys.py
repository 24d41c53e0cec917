#!/usr/bin/env python3
"""Keys from outside: both servers and the worker over TCP with CURVE, against pyzmq clients that hold the right key, none, an unlisted
one, one of another role, or one that is revoked while the server runs. Ends with "N passed, M failed"."""
import concurrent.futures
import contextlib
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire_client as wire
from wire_client import (ACK, ERROR, GRADIENT, HELLO, INIT, LEASE_REQUEST, MIXTURE, MIXTURE_GET, PING, PONG, STATS, WEIGHTS_GET,
                         WELCOME)

BUILD = os.environ.get("BUILD", "build")
K, D, SLOT_SIZE, RUN = 32, 8, 8, "keys-test"
REWIND, FORBIDDEN = 18, 22
TOGETHER = 6  # tests at a time: each has servers and a directory of its own, and nearly all of its time is waiting
PATIENCE_S = 30.0  # before a wait counts as failed; nothing passes or fails by being fast
FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
CONFIRMED = "# confirmed: no workers\n"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DECANT_")}


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain for " + what)


def program(name):
    return os.path.join(BUILD, "bin", name)


def keygen(*arguments, code=0):
    done = subprocess.run([program("decant"), "keygen", *arguments], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


class Process:
    """One of our programs with its log in a file."""

    def __init__(self, directory, name, settings, *options):
        self.path = os.path.join(directory, f"{name}-{time.monotonic_ns()}.log")
        arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        with open(self.path, "w") as log:
            self.process = subprocess.Popen([program(name), *arguments, *options], stdout=log, stderr=log, env=ENVIRONMENT)

    def log(self):
        return pathlib.Path(self.path).read_text()

    def find(self, pattern):
        return re.search(pattern, self.log())

    def logged(self, pattern):
        return wait_for(f"{pattern!r} in the log:\n{self.log()}", lambda: self.find(pattern))

    def exit_code(self):
        return self.process.wait(PATIENCE_S)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code()

    def end(self):
        self.process.kill()
        self.process.wait()


class Site:
    """A directory with keys and, on demand, the servers of a run."""

    def __init__(self, directory):
        self.directory, self.keys = directory, os.path.join(directory, "keys")
        self.processes = []
        keygen("--out", self.keys)
        keygen("--out", self.keys, "client", "worker:two")

    def settings(self, with_keys=True):
        return {"run.name": RUN, "run.out": os.path.join(self.directory, "out"), "run.slots": 1, "run.slot_size": SLOT_SIZE,
                "run.steps": 1000000, "encoder.widths": "8,8", "head.hidden": 8, "mixture.components": K, "mixture.dimensions": D, "loss.block": K, "data.limit": 64,
                **({"keys.directory": self.keys} if with_keys else {})}

    def start(self, name, settings, *options):
        self.processes.append(Process(self.directory, name, settings, *options))
        return self.processes[-1]

    def server(self, kind, with_keys=True):
        """Fills in .requests and .publish."""
        p = self.start(f"decant-{kind}", {**self.settings(with_keys), f"net.{kind}": "tcp://127.0.0.1:*",
                                          f"net.{kind}_publish": "tcp://127.0.0.1:*"})
        p.kind = kind
        p.requests, p.publish = p.logged(r"requests=(\S+) publi\w+=(\S+)").groups()
        return p

    def read(self, name):
        return pathlib.Path(self.keys, name).read_text().strip().encode()

    def pair(self, name, server):
        return self.read(name + ".pub"), self.read(name + ".key"), self.read(server.kind + ".pub")

    def client(self, name, server):
        return contextlib.closing(wire.Client(server.requests, keys=self.pair(name, server)))


@contextlib.contextmanager
def site(*kinds):
    with tempfile.TemporaryDirectory(prefix="decant-keys-") as directory:
        s = Site(directory)
        try:
            servers = [s.server(kind) for kind in kinds]
            yield (s, *servers)
            for server in servers:
                assert server.stop() == 0, server.log()
        except Exception:
            for p in s.processes:
                print(p.log())
            raise
        finally:
            for p in s.processes:
                p.end()


def failed_handshake(endpoint, keys, kind=zmq.DEALER):
    """Connects, says HELLO, and returns the event by which the handshake failed; nothing may be answered."""
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    wire.use_keys(socket, keys)
    monitor = socket.get_monitor_socket(FAILED)
    try:
        socket.connect(endpoint)
        if kind == zmq.DEALER:
            with contextlib.suppress(zmq.Again):  # refused already: then there is nobody to send it to, ever
                socket.send_multipart(wire.encode(HELLO), zmq.NOBLOCK)
        else:
            socket.subscribe(b"")
        assert monitor.poll(int(PATIENCE_S * 1000)), "no failed handshake"
        event = recv_monitor_message(monitor)["event"]
        assert not socket.poll(100), "an answer in spite of that"
        return event
    finally:
        socket.disable_monitor()
        socket.close()


def allowed(client, kind, **fields):
    answer = client.request(kind, **fields)
    assert answer.type != ERROR or answer.code != FORBIDDEN, answer.header
    return answer


def forbidden(client, kind, **fields):
    answer = client.request(kind, **fields)
    assert answer.type == ERROR and answer.code == FORBIDDEN, (kind, answer.header)
    assert answer.run == RUN, answer.header


def statistics(step=0):
    """Four embeddings, each of one component."""
    h = np.eye(4, D, dtype=np.float32)
    return {"step": step, "slots": 1, **wire.factored(h, np.eye(4, K), 0.0)}


# ---- who comes in ----

def test_the_right_key_works_at_both_servers():
    with site("prototype", "parameter") as (s, prototype, parameter):
        for server in (prototype, parameter):
            with s.client("worker", server) as worker:
                worker.hello()
        with s.client("client", prototype) as client:
            client.hello()
            assert client.snapshot().type == MIXTURE
            answer = client.request(STATS, **statistics())
            assert answer.type == ACK and answer.code == wire.APPLIED, answer.header
        for p in (prototype, parameter):
            for name in ("parameter", "prototype", "worker", "client"):
                assert s.read(name + ".key").decode() not in p.log(), "a secret in a log"


def test_no_key_and_unknown_keys_are_refused_and_said():
    with site("prototype", "parameter") as (s, prototype, parameter):
        for server in (prototype, parameter):
            for endpoint, kind in ((server.requests, zmq.DEALER), (server.publish, zmq.SUB)):
                assert failed_handshake(endpoint, None, kind) != zmq.EVENT_HANDSHAKE_FAILED_AUTH
                public, secret = zmq.curve_keypair()
                event = failed_handshake(endpoint, (public, secret, s.read(server.kind + ".pub")), kind)
                assert event == zmq.EVENT_HANDSHAKE_FAILED_AUTH, event
            server.logged(r"event=handshake_failed .*hint=")
            assert server.logged(r'event=key_refused key="(\S{40})" address=127\.0\.0\.1')


def test_a_key_of_the_wrong_server_is_refused():
    """Whoever has only another server's public key cannot even ask."""
    with site("prototype") as (s, prototype):
        public, secret, _ = s.pair("worker", prototype)
        event = failed_handshake(prototype.requests, (public, secret, s.read("parameter.pub")))
        assert event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, event
        prototype.logged("event=handshake_failed")


# ---- who may do what ----

def test_roles_at_the_parameter_server():
    with site("parameter") as (s, parameter):
        for role in ("client", "viewer"):
            with s.client(role, parameter) as client:
                client.hello()
                assert allowed(client, PING).type == PONG
                for kind in (INIT, LEASE_REQUEST, GRADIENT, WEIGHTS_GET, REWIND, STATS):
                    forbidden(client, kind, worker=7, slots=1, want=1, generation=1)
                forbidden(client, PING, worker=7)  # another's sign of life
                forbidden(client, PING, worker=7, code=1)  # another's goodbye
                forbidden(client, HELLO, worker=7)
                forbidden(client, HELLO, scalars={"total_steps": 1})
        with s.client("worker", parameter) as worker:
            worker.hello()
            for kind in (INIT, GRADIENT, WEIGHTS_GET, REWIND):
                allowed(worker, kind, worker=7)
            assert allowed(worker, PING, worker=7).type == PONG


def test_roles_at_the_prototype_server():
    with site("prototype") as (s, prototype):
        with s.client("viewer", prototype) as viewer, s.client("client", prototype) as client, \
                s.client("worker", prototype) as worker:
            for c in (viewer, client, worker):
                c.hello()
                assert allowed(c, PING).type == PONG
                assert allowed(c, MIXTURE_GET, seq=1).type == MIXTURE
            forbidden(viewer, STATS, **statistics())
            forbidden(viewer, HELLO, scalars={"total_steps": 1000000})
            for c in (viewer, client):
                forbidden(c, REWIND, worker=7, generation=1)
                forbidden(c, GRADIENT, worker=7, slots=1)
            assert viewer.snapshot().step == 0, "something was applied"
            assert allowed(client, STATS, **statistics()).type == ACK
            assert allowed(worker, STATS, **statistics(1)).type == ACK
            assert viewer.snapshot().step == 2


def test_only_workers_subscribe_to_weights():
    with site("parameter") as (s, parameter):
        for topic in ("weights", ""):
            offender = zmq.Context.instance().socket(zmq.SUB)
            offender.linger = 0
            wire.use_keys(offender, s.pair("viewer", parameter))
            monitor = offender.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            offender.subscribe(topic.encode())
            offender.connect(parameter.publish)
            assert monitor.poll(int(PATIENCE_S * 1000)), "a viewer may subscribe to " + repr(topic)
            offender.disable_monitor()
            offender.close()
        parameter.logged("event=subscription_refused .*role=viewer")
        for name, topic in (("viewer", b"metrics"), ("worker", b"weights")):
            socket = zmq.Context.instance().socket(zmq.SUB)
            socket.linger = 0
            wire.use_keys(socket, s.pair(name, parameter))
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            socket.subscribe(topic)
            socket.connect(parameter.publish)
            assert not monitor.poll(1500), (name, topic)
            socket.disable_monitor()
            socket.close()


# ---- the list changes ----

def refused_from_now_on(client):
    wait_for("the list to be read again", lambda: client.request(PING).type == ERROR)
    forbidden(client, PING)


def connected_subscriber(endpoint, keys):
    """A SUB that has shaken hands and subscribes to nothing yet, and a monitor of refused handshakes."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.linger = 0
    wire.use_keys(socket, keys)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    socket.connect(endpoint)
    assert monitor.poll(int(PATIENCE_S * 1000)), "no handshake"
    assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
    return socket, monitor


def test_a_worker_is_revoked_while_the_server_runs():
    with site("prototype") as (s, prototype):
        keys = s.pair("worker-two", prototype)
        revoked = zmq.Context.instance().socket(zmq.SUB)
        revoked.linger = 0
        wire.use_keys(revoked, keys)
        monitor = revoked.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        revoked.subscribe(b"mixture")
        revoked.connect(prototype.publish)
        late, late_monitor = connected_subscriber(prototype.publish, keys)
        with s.client("worker-two", prototype) as two, s.client("worker", prototype) as one, \
                contextlib.closing(wire.Subscriber(prototype.publish, "mixture", s.pair("worker", prototype))) as kept:
            one.hello()
            two.hello()
            step = 0
            while not (revoked.poll(0) and kept.socket.poll(0)):  # both subscriptions have arrived
                assert two.request(STATS, **statistics(step)).type == ACK
                step += 1
                time.sleep(0.1)
                assert step < 100
            keygen("--out", s.keys, "--revoke", "worker-two")
            refused_from_now_on(two)
            forbidden(two, STATS, **statistics(step))
            assert failed_handshake(prototype.requests, keys) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            assert monitor.poll(int(PATIENCE_S * 1000)), "the subscription was not ended"
            while revoked.poll(0):
                revoked.recv_multipart()
            while kept.receive(0):
                pass
            assert one.request(STATS, **statistics(step)).type == ACK
            assert kept.receive(PATIENCE_S).step == step + 1
            late.subscribe(b"mixture")  # on the connection that it has had since before
            assert late_monitor.poll(int(PATIENCE_S * 1000)), "a late subscription was accepted"
            assert not revoked.poll(100) and not late.poll(0), "a publication after the revocation"
        for socket in (revoked, late):
            socket.disable_monitor()
            socket.close()


def test_a_worker_is_added_while_the_server_runs():
    with site("prototype", "parameter") as (s, prototype, parameter):
        keygen("--out", s.keys, "worker:three")
        for server in (prototype, parameter):
            server.logged("event=allow_list_read")
            with s.client("worker-three", server) as three:
                assert three.hello().generation == 1  # no restart


def test_a_broken_list_changes_nothing():
    with site("prototype") as (s, prototype):
        path = pathlib.Path(s.keys, "allowed")
        good = path.read_text()
        path.write_text(good + "worker tooshort name\n")
        prototype.logged("event=allow_list_unreadable .*allowed:")
        with s.client("worker", prototype) as worker:
            worker.hello()
            path.write_text("# nobody\n" + CONFIRMED)
            refused_from_now_on(worker)
            path.write_text(good)
            wait_for("the good list", lambda: worker.request(PING).type == PONG)


def test_an_emptied_list_revokes_nobody_at_once():
    with site("prototype") as (s, prototype):
        path = pathlib.Path(s.keys, "allowed")
        good = path.read_text()
        with s.client("worker", prototype) as worker, s.client("client", prototype) as client:
            worker.hello()
            client.hello()
            path.write_text("")
            prototype.logged("event=allow_list_unconfirmed .*add this last line: " + CONFIRMED.strip())
            for c in (worker, client):
                assert c.request(PING).type == PONG
            path.write_text(good)
            prototype.logged("event=allow_list_read")
            path.write_text("".join(line for line in good.splitlines(True) if line.startswith(("#", "viewer"))))
            wait_for("another look", lambda: len(re.findall("allow_list_unconfirmed", prototype.log())) == 2)
            assert worker.request(PING).type == PONG  # and somebody who connects now is still let in
            with s.client("client", prototype) as late:
                late.hello()
            deadline = time.monotonic() + 2 * PATIENCE_S  # the second look comes after half a minute
            while worker.request(PING).type == PONG and time.monotonic() < deadline:
                time.sleep(0.2)
            forbidden(worker, PING)
            keygen("--out", s.keys, "worker:new")
            keygen("--out", s.keys, "--revoke", "worker-new")
            assert path.read_text().endswith(CONFIRMED)


# ---- replay ----

def test_a_replayed_hello_changes_nothing():
    with site("prototype", "parameter") as (s, prototype, parameter):
        for server in (prototype, parameter):
            with s.client("worker", server) as worker:
                hello = wire.encode(HELLO, worker=7, text="host:1")
                answers = []
                for _ in range(3):
                    worker.send_frames(hello)
                    answers.append(worker.receive().header)
                assert answers[0]["type"] == WELCOME and answers[1] == answers[0] and answers[2] == answers[0], answers
            if server is prototype:
                with s.client("client", server) as client:
                    client.hello()
                    before = client.snapshot()
                    message = statistics()
                    assert client.request(STATS, **message).code == wire.APPLIED
                    assert client.request(STATS, **message).code == wire.STALE
                    assert before.step == 0 and client.snapshot().step == 1


# ---- the worker's side ----

def worker_settings(s, endpoint, with_keys=True):
    return {**s.settings(with_keys), "net.parameter": endpoint, "net.prototype": endpoint,
            "net.parameter_publish": endpoint, "net.prototype_publish": endpoint}


def start_worker(s, servers, name="worker", with_keys=True, **others):
    places = {f"net.{p.kind}{suffix}": place for p in servers for suffix, place in (("", p.requests), ("_publish", p.publish))}
    return s.start("decant-worker", {**s.settings(with_keys), **places, **({"keys.name": name} if with_keys else {}), **others})


def test_a_worker_does_not_talk_to_a_server_with_another_key():
    with site() as (s,):
        public, secret = zmq.curve_keypair()
        fake = zmq.Context.instance().socket(zmq.ROUTER)
        fake.linger = 0
        fake.curve_server, fake.curve_secretkey = True, secret
        port = fake.bind_to_random_port("tcp://127.0.0.1")
        worker = s.start("decant-worker", worker_settings(s, f"tcp://127.0.0.1:{port}"))
        worker.logged(r"event=handshake_failed .*\.pub file in keys.directory")
        assert not fake.poll(300), "the worker spoke to it"
        fake.close()


def test_a_worker_says_what_is_wrong_with_its_keys():
    with site("prototype", "parameter") as (s, *servers):
        revoked = start_worker(s, servers, "worker-two")
        servers[1].logged("event=step step=2")  # it works
        other = start_worker(s, servers, **{"optimiser.lr": "0.25"})
        assert other.exit_code() == 2
        other.logged(r"event=wrong_config server=\w+ keys=.optimiser.lr = [0-9.]+, not 0.25")
        keygen("--out", s.keys, "--revoke", "worker-two")
        assert revoked.exit_code() == 1
        assert revoked.find(r"event=failed .*revoked"), revoked.log()
        late = start_worker(s, servers, "worker-two")
        assert late.exit_code() == 1
        late.logged("event=failed .*the server refused our key.*was revoked.*decant keygen --add")
        plain = start_worker(s, servers, with_keys=False)
        plain.logged("event=handshake_failed .*set keys.directory")
        missing = start_worker(s, servers, "nobody")
        assert missing.exit_code() == 2
        missing.logged("nobody.key.*decant keygen")


def test_keys_against_a_server_without():
    with site() as (s,):
        server = s.server("parameter", with_keys=False)
        worker = s.start("decant-worker", worker_settings(s, server.requests))
        worker.logged("event=handshake_failed .*the server has no keys")
        server.logged("event=handshake_failed .*we have none")
        assert server.stop() == 0


def test_health_uses_the_keys():
    def health(*arguments, with_keys=True):
        environment = {**ENVIRONMENT, **({"DECANT_KEYS_DIRECTORY": s.keys} if with_keys else {})}
        done = subprocess.run([program("decant"), "health", *arguments], capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr

    with site("prototype", "parameter") as (s, prototype, parameter):
        for server in (prototype, parameter):
            code, text = health("--server", server.kind, server.requests)
            assert code == 0 and f"server={server.kind}" in text, text
            code, text = health(server.requests, with_keys=False)
            assert code == 1 and "set keys.directory" in text, text
            own = s.start(f"decant-{server.kind}", {**s.settings(), f"net.{server.kind}": server.requests}, "health")
            assert own.exit_code() == 0, own.log()
        code, text = health("--server", "parameter", prototype.requests)
        assert code == 1 and "another one than its .pub file" in text, text
        assert health(prototype.requests)[0] == 1  # whose key?


# ---- where a server listens ----

def test_a_secret_that_others_can_read_is_said():
    with site() as (s,):
        secret = os.path.join(s.keys, "parameter.key")
        modes = [(0o600, None, False), (0o640, None, True), (0o604, None, True)]
        if os.geteuid() == 0:  # files of somebody else, handed over through their group
            modes += [(0o440, 65534, False), (0o460, 65534, True), (0o444, 65534, True)]
        for mode, owner, said in modes:
            os.chown(secret, os.geteuid() if owner is None else owner, -1)
            os.chmod(secret, mode)
            server = s.server("parameter")
            assert bool(server.find("event=secret_readable .*chmod 600")) == said, (oct(mode), owner, server.log())
            assert server.stop() == 0


def test_beyond_this_machine_keys_are_needed_or_said_not_to_be():
    with site() as (s,):
        for kind in ("prototype", "parameter"):
            for door in (f"net.{kind}", f"net.{kind}_publish"):
                open_to_all = {f"net.{kind}": "tcp://127.0.0.1:*", f"net.{kind}_publish": "tcp://127.0.0.1:*",
                               door: "tcp://0.0.0.0:*"}
                refused = s.start(f"decant-{kind}", {**s.settings(with_keys=False), **open_to_all})
                assert refused.exit_code() == 2, refused.log()
                assert refused.find("decant keygen.*--insecure"), refused.log()
            for settings, options in ((s.settings(with_keys=False), ["--insecure"]),
                                      ({**s.settings(with_keys=False), "net.insecure": "true"}, []), (s.settings(), [])):
                server = s.start(f"decant-{kind}", {**settings, **open_to_all}, *options)
                server.logged("event=listening")
                assert bool(server.find("event=insecure")) == ("keys.directory" not in settings)
                assert server.stop() == 0


# ---- decant keygen ----

def test_keygen():
    with tempfile.TemporaryDirectory(prefix="decant-keygen-") as directory:
        keys = os.path.join(directory, "keys")
        keygen("--out", keys)
        mode = lambda path: stat.S_IMODE(os.stat(path).st_mode)
        assert mode(keys) == 0o700
        for name in ("parameter", "prototype", "worker", "viewer"):
            assert mode(os.path.join(keys, name + ".key")) == 0o600
        before = {p.name: p.read_bytes() for p in pathlib.Path(keys).iterdir()}
        assert "not overwritten" in keygen("--out", keys, "client", "worker", code=1)
        assert before == {p.name: p.read_bytes() for p in pathlib.Path(keys).iterdir()}, "a refused command left something"
        for wrong in ("parameter:x", "root", "worker:a/b", "worker:", "worker:" + 60 * "x"):
            keygen("--out", keys, wrong, code=2)
        keygen("--out", keys, "client:torch")
        assert [line.split()[0::2] for line in keygen("--out", keys, "--list").splitlines() if "torch" in line] == [
            ["client", "client-torch"]]
        keygen("--out", keys, "--revoke", "client-torch")
        assert "torch" not in keygen("--out", keys, "--list")
        keygen("--out", keys, "--revoke", "client-torch", code=1)
        keygen("--out", keys, "--add", os.path.join(keys, "client-torch.pub"), "viewer:torch")
        assert "viewer-torch" in keygen("--out", keys, "--list")
        assert "already" in keygen("--out", keys, "--add", os.path.join(keys, "client-torch.pub"), "client:torch", code=1)
        keygen("--out", keys, "--add", os.path.join(keys, "allowed"), "client:other", code=2)


def test_keygen_gives_every_process_its_own():
    servers_need, others_need = {"allowed"}, {"parameter.pub", "prototype.pub"}
    with tempfile.TemporaryDirectory(prefix="decant-keygen-") as directory:
        ring, target = pathlib.Path(directory, "ring"), pathlib.Path(directory, "target")
        both = ("--out", str(ring), "--deploy", str(target))
        state = lambda: {p: (p.read_bytes(), p.stat().st_ino) for top in (ring, target) for p in top.rglob("*") if p.is_file()}
        keygen(*both)
        for name in ("parameter", "prototype", "worker", "viewer"):
            files = list((target / name).iterdir())
            assert {p.name for p in files} == {name + ".key"} | (servers_need if name.startswith("p") else others_need)
            assert stat.S_IMODE((target / name).stat().st_mode) == 0o700
            assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 and p.read_bytes() == (ring / p.name).read_bytes() for p in files)
        before = state()
        keygen(*both)
        assert state() == before, "with all keys there, nothing is to be done"
        keygen(*both, "worker:two")
        assert {p.name for p in (target / "worker-two").iterdir()} == {"worker-two.key"} | others_need
        keygen(*both, "worker:two", code=1)
        for server in ("parameter", "prototype"):
            assert "worker-two" in (target / server / "allowed").read_text()
        keygen(*both, "--revoke", "worker-two")
        keygen(*both, "--revoke", "worker")
        keygen(*both)
        for server in ("parameter", "prototype"):
            assert "\nworker" not in (target / server / "allowed").read_text(), "revoked, but listed again"
        (ring / "viewer.key").unlink()
        (ring / "viewer.pub").unlink()
        assert "viewer is listed already" in keygen(*both, code=1)
        (ring / "parameter.pub").unlink()
        assert "parameter.pub" in keygen("--out", str(ring), "--deploy", str(target), "client", code=1)


def run_test(name, test):
    """Whatever goes wrong is that test's failure; the others still run."""
    try:
        test()
        print(f"ok   {name}\n", end="", flush=True)
        return True
    except Exception:
        print(f"FAIL {name}\n{traceback.format_exc()}", end="", flush=True)
        return False


def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    # The longest first: half a minute of it is how long a list that lost everybody has to stay as it is.
    tests.sort(key=lambda named: named[1] is not test_an_emptied_list_revokes_nobody_at_once)
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        passed = sum(pool.map(lambda named: run_test(*named), tests))
    print(f"{passed} passed, {len(tests) - passed} failed")
    return 0 if passed == len(tests) else 1


if __name__ == "__main__":
    sys.exit(main())
