#!/usr/bin/env python3
"""What the Redis mirror costs: processor time of the prototype server's loop, and of Redis, with the mirror off and on at 1 Hz.

A client streams statistics at a fixed rate: a step of 256 embeddings, each explained by one component drawn at random, ten times a
second. Off and on take turns, so that a busy machine disturbs both. The last columns show what an update writes: of K prototypes
only those go that the second's statistics touched.

    tests/bench/bench_mirror.py [SECONDS]        per measurement, 10 by default"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import redis

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../py"))
from wire_client import STATS, Client  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
D, SLOT_SIZE, STEPS_PER_S, ROUNDS = 128, 128, 10, 3


def loop_seconds(pid):
    """Processor time of the process's first thread: of the server that is the loop, not the diagnostics' pool."""
    with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as f:
        return int(f.read().split()[0]) * 1e-9


class Redis:
    def __init__(self, directory):
        self.socket = os.path.join(directory, "redis.sock")
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "",
                                         "--appendonly", "no", "--dir", directory, "--logfile", os.path.join(directory, "redis.log")])
        self.client = redis.Redis(unix_socket_path=self.socket)
        while not os.path.exists(self.socket):
            time.sleep(0.05)

    def written(self):
        """(HSET commands, bytes received) so far."""
        return (self.client.info("commandstats").get("cmdstat_hset", {}).get("calls", 0),
                self.client.info("stats")["total_net_input_bytes"])


class Server:
    def __init__(self, directory, name, K, store):
        self.endpoint = f"ipc://{directory}/{name}"
        settings = {"run.name": name, "run.out": f"{directory}/{name}-out", "run.steps": 10 ** 6, "run.slots": 1,
                    "run.slot_size": SLOT_SIZE, "mixture.source": "views", "mixture.balance": 0, "run.log_every": 10 if K <= 1024 else 10 ** 6, "run.checkpoint_every": 0,
                    "mixture.components": K, "mixture.dimensions": D, "mixture.reseed_usage": 0, "net.prototype": self.endpoint,
                    "net.prototype_publish": f"{self.endpoint}-publish", "redis.enabled": str(store is not None).lower(),
                    "redis.host": store.socket if store else "none"}
        self.process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", "--log-level", "error",
                                         *[a for k, v in settings.items() for a in ("--set", f"{k}={v}")]])
        self.client = Client(self.endpoint, 60)
        self.client.hello()
        self.K, self.step, self.random = K, 0, np.random.RandomState(1)

    def message(self):
        rows = 2 * SLOT_SIZE
        h = self.random.randn(rows, D).astype(np.float32)
        h /= np.linalg.norm(h, axis=1, keepdims=True)
        component = self.random.randint(self.K, size=rows).astype(np.uint32)
        return {"encoding": 3, "scalars": {"count": float(rows), "loglik": 0.0, "dropped": 0.0},
                "tensors": {"h": h, "start": np.arange(rows + 1, dtype=np.uint32), "index": component,
                            "gamma": np.ones(rows, np.float32)}}

    def run(self, seconds):
        """Streams for so long; the loop's processor time as a share of one core."""
        before, started = loop_seconds(self.process.pid), time.monotonic()
        for i in range(int(seconds * STEPS_PER_S)):
            time.sleep(max(0.0, started + i / STEPS_PER_S - time.monotonic()))
            answer = self.client.request(STATS, step=self.step, slot=0, slots=1, worker=7, **self.message())
            assert answer.code == 0, answer.header
            self.step += 1
        return (loop_seconds(self.process.pid) - before) / (time.monotonic() - started)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def wait_for_first_sync(store, name):
    while store.client.hget(f"decant:{name}", "version") is None:
        time.sleep(0.05)
    time.sleep(1)


def measure(directory, K, seconds):
    store = Redis(directory)
    off, on = Server(directory, "off", K, None), Server(directory, "on", K, store)
    try:
        wait_for_first_sync(store, "on")
        off.run(1)
        on.run(1)
        shares = {"off": [], "on": [], "redis": []}
        sets = received = 0
        for _ in range(ROUNDS):
            shares["off"].append(off.run(seconds))
            sets_before, received_before = store.written()
            redis_before, started = loop_seconds(store.process.pid), time.monotonic()
            shares["on"].append(on.run(seconds))
            shares["redis"].append((loop_seconds(store.process.pid) - redis_before) / (time.monotonic() - started))
            sets_after, received_after = store.written()
            sets += sets_after - sets_before
            received += received_after - received_before
        off_share, on_share, redis_share = (100 * float(np.median(shares[k])) for k in ("off", "on", "redis"))
        total = ROUNDS * seconds
        print(f"| {K} | {off_share:.2f} % | {on_share:.2f} % | {on_share - off_share:.2f} % | {redis_share:.2f} % "
              f"| {sets / total:.0f} | {received / total / 1e6:.2f} MB |", flush=True)
    finally:
        off.stop()
        on.stop()
        store.process.terminate()
        store.process.wait()


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print("| K | loop, mirror off | loop, mirror on | the mirror's share of a core | Redis' | HSET per update | bytes per update |")
    print("|---|---|---|---|---|---|---|")
    for K in (1024, 65536):
        directory = tempfile.mkdtemp(prefix="decant-bench-")
        try:
            measure(directory, K, seconds)
        finally:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
