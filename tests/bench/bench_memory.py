#!/usr/bin/env python3
"""Memory of a prototype server at K = 65 536, D = 256 while versions go by: resident, and the most so far, with mirror, diagnostics,
checkpoints and one subscriber.

A client streams statistics as fast as they are acknowledged: a step of 256 embeddings, each of 8 components drawn at random, so that
all rows of the mixture move again and again.

    tests/bench/bench_memory.py [VERSIONS [EVERY]]

VERSIONS: 10 000 by default, some ten minutes. EVERY: versions between checkpoints, 2000 by default; with 64 each is copied in the
version that is also published as a whole now and then, which is when a server holds most."""
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../py"))
from bench_mirror import Redis  # noqa: E402
from wire_client import STATS, Client, Subscriber  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
K, D, ROWS, EACH = 65536, 256, 256, 8


def start(directory, store, every):
    endpoint = f"ipc://{directory}/server"
    settings = {"run.name": "memory", "run.out": f"{directory}/run", "run.steps": 10 ** 6, "run.slots": 1, "run.slot_size": ROWS,
                "run.log_every": 10, "run.checkpoint_every": every, "run.checkpoint_keep": 1, "mixture.components": K,
                "mixture.dimensions": D, "net.prototype": endpoint, "net.prototype_publish": f"{endpoint}-publish",
                "redis.enabled": "true", "redis.host": store.socket}
    process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", "--log-level", "error",
                                *[a for k, v in settings.items() for a in ("--set", f"{k}={v}")]])
    return process, Client(endpoint, 120), Subscriber(f"{endpoint}-publish", "")


def contribution(random):
    h = random.standard_normal((ROWS, D), np.float32)
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    component = np.sort(random.integers(K // EACH, size=(ROWS, 1)) + np.arange(EACH) * (K // EACH)).astype(np.uint32)
    return {"encoding": 3, "scalars": {"count": float(ROWS), "loglik": 0.0, "dropped": 0.0},
            "tensors": {"h": h, "start": np.arange(0, ROWS * EACH + 1, EACH, dtype=np.uint32), "index": component.reshape(-1),
                        "gamma": np.full(ROWS * EACH, 1 / EACH, np.float32)}}


def memory(pid, key):
    """MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith(key)).split()[1]) / 1024


def report(pid, store, version, heard):
    info = store.client.hgetall("decant:memory")
    print(f"bench=memory version={version} resident_mib={memory(pid, 'VmRSS'):.0f} most_mib={memory(pid, 'VmHWM'):.0f} "
          f"published={heard} mirrored_version={info.get(b'version', b'none').decode()} "
          f"unique_01={info.get(b'unique_01', b'none').decode()}", flush=True)


def stream(process, client, subscriber, store, versions):
    random, heard = np.random.default_rng(1), 0
    client.hello()
    for step in range(versions):
        answer = client.request(STATS, step=step, slot=0, slots=1, worker=7, **contribution(random))
        assert answer.code == 0, answer.header
        while subscriber.receive(0) is not None:
            heard += 1
        if (step + 1) % (versions // 20) == 0:
            report(process.pid, store, step + 1, heard)


def main():
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    every = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    with tempfile.TemporaryDirectory(prefix="decant-bench-") as directory:
        store = Redis(directory)
        process, client, subscriber = start(directory, store, every)
        try:
            stream(process, client, subscriber, store, versions)
        finally:
            process.terminate()
            process.wait()
            store.process.terminate()
            store.process.wait()


if __name__ == "__main__":
    main()
