#!/usr/bin/env python3
"""The Redis mirror from outside: a private redis-server, decant-prototype, and a client that streams statistics.

Shows that every documented key appears, that statistics are acknowledged while Redis is dead or frozen, and that the mirror is
complete again once it is back. Ends with "N passed, M failed"."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import msgpack
import numpy as np
import redis
import zmq

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
K, D, SLOTS, SLOT_SIZE, RUN = 32, 8, 2, 8, "mirror-test"
HELLO, WELCOME, STATS, ACK, MIXTURE_GET, MIXTURE, PING, PONG, REWIND = 1, 2, 7, 8, 12, 13, 14, 15, 18
PATIENCE = 20.0  # seconds before a wait counts as failed; nothing passes or fails by being fast


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            value = condition()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError("waited in vain for " + what)


class Redis:
    """A redis-server of our own on a unix socket, without persistence: killed, it forgets everything."""

    def __init__(self, directory, *options, password=None):
        self.socket = os.path.join(directory, "redis.sock")
        self.client = redis.Redis(unix_socket_path=self.socket, password=password)
        self.directory = directory
        self.options = options
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no",
             "--dir", self.directory, "--logfile", os.path.join(self.directory, "redis.log"), *self.options])
        wait_for("redis-server", self.client.ping)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Server:
    """decant-prototype on ports that the system picks."""

    def __init__(self, directory, redis_socket, name="out", environment=None, **more):
        self.out = os.path.join(directory, name)
        self.log = open(os.path.join(directory, f"prototype-{name}.log"), "a+", encoding="utf-8")
        settings = {"run.name": RUN, "run.out": self.out, "run.steps": 100000, "run.slots": SLOTS,
                    "run.slot_size": SLOT_SIZE, "mixture.source": "views", "mixture.balance": 0, "run.log_every": 2, "run.checkpoint_every": 50,
                    "mixture.components": K, "mixture.dimensions": D, "loss.block": K, "mixture.reseed_usage": 1,
                    "net.prototype": "tcp://127.0.0.1:*", "net.prototype_publish": "tcp://127.0.0.1:*",
                    "redis.enabled": "true", "redis.host": redis_socket, "redis.interval": 0.1,
                    **{k.replace("__", "."): v for k, v in more.items()}}
        self.arguments = [a for k, v in settings.items() for a in ("--set", f"{k}={v}")]
        self.process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", *self.arguments], stderr=self.log,
                                        env={**os.environ, **(environment or {})})
        self.endpoint = wait_for("the server's endpoint", self.find_endpoint)

    def find_endpoint(self):
        self.log.seek(0)
        words = self.log.read().split()
        return next((w.split("=", 1)[1] for w in words if w.startswith("requests=")), None)

    def lines(self, text):
        self.log.seek(0)
        return [line for line in self.log if text in line]

    def said(self, text):
        return bool(self.lines(text))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


class Client:
    """The smallest worker: hello, then statistics of random embeddings against whatever the mixture is."""

    def __init__(self, endpoint, run=RUN, samples=0):
        """samples: embeddings that k-means++ wants of the first steps."""
        self.run, self.samples = run, samples
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self.random = np.random.RandomState(1)
        self.worker = 0xABC
        self.step = 0
        self.request(type=HELLO, text="testhost:1")

    def request(self, tensors=(), **header):
        header = {"version": 1, "run": self.run, "worker": self.worker, **header}
        if tensors:
            header["tensors"] = [[n, {"float32": "F32", "uint32": "U32"}[a.dtype.name], list(a.shape)] for n, a in tensors]
        self.socket.send_multipart([msgpack.packb(header), *(a.tobytes() for _, a in tensors)])
        if not self.socket.poll(PATIENCE * 1000):
            raise AssertionError("no reply to " + repr(header))
        frames = self.socket.recv_multipart()
        return msgpack.unpackb(frames[0]), frames[1:]

    def send_slot(self, slot):
        rows = 2 * SLOT_SIZE
        h = self.random.randn(rows, D).astype(np.float32)
        h /= np.linalg.norm(h, axis=1, keepdims=True)
        index = self.random.randint(K // 4, size=rows).astype(np.uint32)  # three quarters of the components starve
        tensors = [("h", h), ("start", np.arange(rows + 1, dtype=np.uint32)), ("index", index),
                   ("gamma", np.ones(rows, np.float32)), ("novel", h[:2].copy()),
                   ("novel_distance", np.array([0.5, 0.4], np.float32)), ("assigned", index)]
        if self.samples > 0:
            tensors.append(("sample", h[:self.samples]))
            self.samples -= len(tensors[-1][1])
        reply, _ = self.request(type=STATS, step=self.step, slot=slot, slots=1, encoding=3, tensors=tensors,
                                scalars={"count": float(rows), "loglik": -1.5 * rows, "dropped": 0.0})
        assert reply["type"] == ACK and reply.get("code", 0) == 0, reply

    def run_steps(self, count):
        for _ in range(count):
            for slot in range(SLOTS):
                self.send_slot(slot)
            self.step += 1
        self.request(type=PING, step=self.step, scalars={"images_per_s": 12.5})

    def mixture(self):
        header, frames = self.request(type=MIXTURE_GET, seq=1)
        assert header["type"] == MIXTURE, header
        return {name: np.frombuffer(f, np.float32).reshape(shape)
                for (name, _, shape), f in zip(header["tensors"], frames)}


def text(value):
    return {k.decode(): v for k, v in value.items()}


def run_cases(case, names):
    """Runs these methods in order: each may build on the last. (passed, failed)"""
    passed = failed = 0
    for name in names:
        try:
            getattr(case, name)()
            passed += 1
            print("ok   ", name, flush=True)
        except Exception as error:  # the next tests still tell something
            failed += 1
            print("FAIL ", name, repr(error), flush=True)
    return passed, failed


class Case:
    def __init__(self, directory):
        self.directory = directory
        self.redis = Redis(directory)
        self.server = Server(directory, self.redis.socket)
        self.client = Client(self.server.endpoint)

    def key(self, suffix=""):
        return f"decant:{RUN}{suffix}"

    def caught_up(self):
        version = self.redis.client.hget(self.key(), "version")
        return version is not None and int(version) == self.client.step

    def settled(self):
        """Nothing more is coming: the newest version, and the diagnostics of the last step that asks for them (log_every = 2)."""
        measured = self.redis.client.hget(self.key(), "diagnostics_version")
        return self.caught_up() and measured is not None and int(measured) >= self.client.step // 2 * 2

    def test_run_hash(self):
        self.client.run_steps(20)
        wait_for("the newest version and its diagnostics", self.settled)
        run = text(self.redis.client.hgetall(self.key()))
        for field in ("step version writing K D covariance beta unique_0025 unique_01 unique_025 unique_05 active perplexity "
                      "effective_rank loglik dropped reseeded workers stats_per_s started updated generation "
                      "total_steps config mirror_lag_ms mirror_dropped diagnostics_version").split():
            assert field in run, field
        assert (int(run["K"]), int(run["D"]), int(run["workers"]), int(run["generation"])) == (K, D, 1, 1), run
        assert run["covariance"] == b"diag" and abs(float(run["loglik"]) + 1.5) < 1e-6
        assert float(run["active"]) == 25.0, run["active"]
        assert self.redis.client.sismember("decant:runs", RUN)

    def test_prototypes_equal_the_mixture(self):
        wait_for("the newest version", self.settled)
        mixture = self.client.mixture()
        mass = 0.0
        for k in range(K):
            p = text(self.redis.client.hgetall(self.key(f":prototype:{k}")))
            assert p["dtype"] == b"float32" and int(p["shape"]) == D
            assert p["mean"] == mixture["mean"][k].tobytes() and p["variance"] == mixture["variance"][k].tobytes()
            assert int(p["nearest"]) != k and -1.0001 <= float(p["nearest_cosine"]) <= 1.0001
            mass += float(p["weight"])
        assert mass > 0
        means = np.stack([np.frombuffer(self.redis.client.hget(self.key(f":prototype:{k}"), "mean"), "f4") for k in range(K)])
        assert np.array_equal(means, mixture["mean"])

    def test_indices(self):
        assert self.redis.client.zcard(self.key(":by_weight")) == K
        assert self.redis.client.zcard(self.key(":by_nearest")) == K
        (most_used, usage), = self.redis.client.zrevrange(self.key(":by_weight"), 0, 0, withscores=True)
        assert int(most_used) < K // 4 and usage > 1 / K
        (a, _), (b, _) = self.redis.client.zrevrange(self.key(":by_nearest"), 0, 1, withscores=True)
        assert {int(a), int(b)} == {int(a), int(self.redis.client.hget(self.key(f":prototype:{int(a)}"), "nearest"))}

    def test_metrics_stream_and_workers(self):
        wait_for("entries of the stream", lambda: self.redis.client.xlen(self.key(":metrics")) >= 10)
        newest = wait_for("a step's figures", lambda: next((text(f) for _, f in self.redis.client.xrevrange(self.key(":metrics"))
                                                            if b"loglik" in f), None))
        for field in "step version loglik beta usage_perplexity reseeded dropped active".split():
            assert field in newest, field
        worker = f"{self.client.worker:016x}"
        assert self.redis.client.hget(self.key(":workers"), worker) == b"testhost:1"
        w = wait_for("the worker's rates", lambda: (lambda h: h if "images_per_s" in h else None)(
            text(self.redis.client.hgetall(self.key(f":worker:{worker}")))))
        assert float(w["images_per_s"]) == 12.5 and int(w["step"]) == 20 and int(w["stats"]) == 20 * SLOTS
        for kept in (f":worker:{worker}", ":workers", ":live"):  # what is gone soon after the mirror is
            assert 0 < self.redis.client.ttl(self.key(kept)) <= 15, kept

    def test_events(self):
        listener = self.redis.client.pubsub()
        listener.subscribe(self.key(":events"))
        seen = []

        def reseeded_and_saved():
            while (message := listener.get_message(timeout=0.01)) is not None:
                if message["type"] == "message":
                    seen.append(json.loads(message["data"])["event"])
            return {"reseed", "checkpoint"} <= set(seen)

        wait_for("the subscription", lambda: listener.get_message(timeout=0.1))
        self.client.run_steps(50)
        wait_for("events", reseeded_and_saved)
        listener.close()

    def test_seeding_is_told(self):
        embeddings = K + 1  # a whole number of slots and a part of one
        server = Server(self.directory, self.redis.socket, "seeded", run__name="seeded", mixture__init="kmeans++",
                        mixture__init_embeddings=embeddings)
        listener = self.redis.client.pubsub()
        listener.subscribe("decant:seeded:events")
        seen = []

        def told():
            while (message := listener.get_message(timeout=0.01)) is not None:
                seen.extend([json.loads(message["data"])] if message["type"] == "message" else [])
            return any(event["event"] == "seed" for event in seen)

        try:
            wait_for("the subscription", lambda: listener.get_message(timeout=0.1))
            client = Client(server.endpoint, "seeded", embeddings)
            client.run_steps(embeddings // (2 * SLOT_SIZE * SLOTS) + 3)
            wait_for("the event", told)
            placed = [event for event in seen if event["event"] == "seed"]
            assert placed == [{"event": "seed", "step": embeddings // (2 * SLOT_SIZE * SLOTS) + 1, "components": K, "of": K,
                               "embeddings": embeddings}], placed
            shares = [float(fields[b"seeding"]) for _, fields in self.redis.client.xrange("decant:seeded:metrics") if b"seeding" in fields]
            assert shares[-1] == 100 and set(shares) <= {0, 100}, shares
            assert server.stop() == 0
        finally:
            listener.close()
            if server.process.poll() is None:
                server.process.kill()

    def test_killed_redis_is_filled_again(self):
        self.redis.kill()
        self.client.run_steps(30)  # each slot is acknowledged, or this fails
        self.redis.start()
        self.client.run_steps(5)
        wait_for("the mirror after the restart", self.settled)
        self.test_prototypes_equal_the_mixture()
        self.test_indices()

    def test_frozen_redis_holds_up_nothing(self):
        self.redis.process.send_signal(signal.SIGSTOP)
        try:
            self.client.run_steps(30)
        finally:
            self.redis.process.send_signal(signal.SIGCONT)
        wait_for("the mirror after the pause", self.settled)
        self.test_prototypes_equal_the_mixture()

    def test_paused_redis_holds_up_nothing(self):
        self.redis.client.client_pause(1500)
        self.client.run_steps(30)
        wait_for("the mirror after the pause", self.settled)
        self.test_prototypes_equal_the_mixture()

    def test_full_redis_holds_up_nothing(self):
        self.redis.client.config_set("maxmemory-policy", "noeviction")
        self.redis.client.config_set("maxmemory", 1)
        try:
            self.client.run_steps(30)
            wait_for("a refusal", lambda: self.server.said("event=redis_refused"))
            assert not self.caught_up()
        finally:
            self.redis.client.config_set("maxmemory", 0)
        wait_for("the mirror with memory again", self.settled)
        self.test_prototypes_equal_the_mixture()
        self.test_indices()

    def test_restarted_redis_with_old_data_is_brought_up_to_date(self):
        self.redis.client.save()  # with "--dir", the next start reads this dump
        self.client.run_steps(10)
        self.redis.kill()
        self.redis.start()
        wait_for("the mirror after the restart", self.settled)
        self.test_prototypes_equal_the_mixture()

    def test_an_older_server_does_not_overwrite_a_newer_one(self):
        """Another process takes the run's place while ours is frozen; thawed, ours serves its workers and writes nothing."""
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            newer = Server(self.directory, self.redis.socket, "newer")
            started = wait_for("the newer server's mirror", lambda: self.redis.client.hget(self.key(), "version") == b"0"
                               and self.redis.client.hget(self.key(), "started"))
        finally:
            self.server.process.send_signal(signal.SIGCONT)
        try:
            before = self.redis.client.hget(self.key(":prototype:1"), "mean")
            self.client.run_steps(30)
            wait_for("the older server to notice", lambda: self.server.said("event=mirror_superseded"))
            self.client.run_steps(5)
            run = text(self.redis.client.hgetall(self.key()))
            assert (run["version"], run["writing"], run["started"]) == (b"0", b"0", started), run
            assert self.redis.client.hget(self.key(":prototype:1"), "mean") == before
            assert newer.stop() == 0
            assert not newer.said("event=mirror_superseded")
        finally:
            if newer.process.poll() is None:
                newer.process.kill()
        self.redis.client.delete(self.key())  # nobody holds it any more: ours comes back and writes everything
        wait_for("the mirror in our hands again", self.settled)
        self.test_prototypes_equal_the_mixture()

    def test_going_back_is_told_and_shown(self):
        listener = self.redis.client.pubsub()
        listener.subscribe(self.key(":events"))
        wait_for("the subscription", lambda: listener.get_message(timeout=0.1))
        with open(f"{self.server.out}/generation-parameter", "w", encoding="ascii") as f:
            f.write("1\n")  # the parameter server has started, which is what makes the next message believable
        reply, _ = self.client.request(type=REWIND, generation=1, step=1)  # "the parameter server stands at 1"
        assert reply["type"] == ACK and reply.get("code", 0) == 0, reply
        event = wait_for("the event", lambda: (lambda m: m and m["type"] == "message" and json.loads(m["data"]))(
            listener.get_message(timeout=0.1)))
        assert (event["event"], event["step"], event["generation"]) == ("rewind", 0, 2), event
        listener.close()
        self.client.step = 0
        self.client.run_steps(4)
        wait_for("the new state", self.settled)
        assert self.redis.client.hget(self.key(), "generation") == b"2"
        self.test_prototypes_equal_the_mixture()

    def test_stop_leaves_the_final_state(self):
        self.client.run_steps(3)
        step = self.client.step
        assert self.server.stop() == 0
        assert int(self.redis.client.hget(self.key(), "version")) == step
        path = f"{self.server.out}/checkpoints/step-{step:06d}/mixture.safetensors"
        with open(path, "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        assert header["__metadata__"]["step"] == str(step) and header["mass"]["shape"] == [K]
        lines = [json.loads(line) for line in open(f"{self.server.out}/metrics-prototype.jsonl", encoding="utf-8")]
        assert any("unique_0025" in line for line in lines) and any("loglik" in line for line in lines)

    def close(self):
        for process in (self.server.process, self.redis.process):
            if process.poll() is None:
                process.kill()
            process.wait()


def main():
    directory = tempfile.mkdtemp(prefix="decant-redis-")
    case = Case(directory)
    failed = 1
    try:
        passed, failed = run_cases(case, [n for n in Case.__dict__ if n.startswith("test_")])
    finally:
        case.close()
        if failed:
            print(open(os.path.join(directory, "prototype-out.log"), encoding="utf-8").read()[-4000:])
        shutil.rmtree(directory)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
