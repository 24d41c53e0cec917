#!/usr/bin/env python3
"""A run goes on while somebody who speaks the protocol well tells lies: that the other server has gone back, that the mixture has
restarted, that a thousand workers want everything. It heals when somebody sends a gradient without its statistics, after which
neither server can go on. Same bytes as a run left in peace, every time."""
import os
import pathlib
import shutil
import sys
import tempfile
import time

import msgpack
import numpy as np
import zmq

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import chaos  # noqa: E402
import wire_client  # noqa: E402

LEASE_REQUEST, GRADIENT, PING, REWIND, ERROR = 4, 6, 14, 18, 9
STEPS = 900


class Liar:
    """A DEALER at one server."""

    def __init__(self, context, port):
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, type_, **fields):
        self.socket.send_multipart([msgpack.packb({"version": 1, "type": type_, **fields})])
        if not self.socket.poll(5000):
            return {}
        return msgpack.unpackb(self.socket.recv_multipart()[0])


def lie(run, ports):
    context = zmq.Context()
    parameter, prototype = Liar(context, ports[0]), Liar(context, ports[2])
    while run.step() < 260 and not run.over():
        time.sleep(0.05)
    lied_at = run.step()
    generation = prototype.ask(PING)["generation"]
    for _ in range(5):
        answer = prototype.ask(REWIND, run="chaos", worker=5, generation=generation, step=0)
        chaos.check("the prototype server answers a REWIND", answer.get("generation") == generation, answer)
    generation = parameter.ask(PING)["generation"]
    answer = parameter.ask(REWIND, run="chaos", worker=5, generation=generation, step=0)
    chaos.check("the parameter server answers a REWIND", answer.get("generation") == generation, answer)
    parameter.ask(PING, run="chaos", worker=5, scalars={"lineage": 2.0 ** 53})
    answer = parameter.ask(PING, run="chaos", worker=6, scalars={"lineage": 7.0})
    chaos.check("neither has gone back", answer.get("generation") == generation and answer.get("step", 0) >= lied_at, answer)
    for worker in range(100, 400):
        parameter.socket.send_multipart([msgpack.packb({"version": 1, "type": LEASE_REQUEST, "run": "chaos", "worker": worker,
                                                        "want": 1024})])
    context.destroy(0)
    return lied_at


def tear(run, ports):
    """Takes a lease and sends a gradient for it, but no statistics: from then on the mixture misses them for ever."""
    client = wire_client.Client(f"tcp://127.0.0.1:{ports[0]}")
    while run.step() < 260 and not run.over():
        time.sleep(0.05)
    facts = client.hello()
    client.facts["worker"] = 77
    weights = client.request(wire_client.WEIGHTS_GET)
    tensors = {"grad": np.zeros_like(weights.tensors["student"])}
    if "buffers" in weights.tensors:
        tensors["buffers"] = weights.tensors["buffers"]
    for _ in range(50):
        client.send_frames(wire_client.encode(wire_client.LEASE_REQUEST, **client.facts, want=1))
        lease = client.receive()
        if lease is None or lease.type != wire_client.LEASE:
            continue
        answer = client.request(wire_client.GRADIENT, tensors, step=lease.step, slot=lease.slot, slots=lease.slots,
                                generation=facts.generation)
        if answer.type == wire_client.ACK and answer.code == wire_client.APPLIED:
            chaos.check("a gradient without statistics was counted", True)
            client.send_frames(wire_client.encode(PING, **client.facts, code=1))
            return
    chaos.check("a gradient without statistics was counted", False, "no lease for it in fifty tries")


def torn(work, options, whole):
    ports = chaos.free_ports(4)
    run = chaos.Run(f"{work}/torn", options, 2, ports)
    tear(run, ports)
    chaos.check("the pair that came apart heals by itself", run.wait(300) == 0, f"see {work}/torn.log")
    log = (pathlib.Path(work) / "torn/logs/parameter.log").read_text()
    chaos.check("it noticed that nothing moved, and went back", "event=pair_stuck" in log and "event=rewound" in log)
    chaos.same(whole, run, ["encoder.safetensors", "mixture.safetensors"])


def main():
    options = chaos.SMALL + [f"run.steps={STEPS}", "net.lease_ms=2000"]
    work = tempfile.mkdtemp(prefix="decant-hostile-")
    try:
        whole = chaos.undisturbed(work, options)
        ports = chaos.free_ports(4)
        run = chaos.Run(f"{work}/chaos", options, 2, ports)
        lied_at = lie(run, ports)
        chaos.check(f"the run ends by itself, lied to at step {lied_at}", run.wait(300) == 0, f"see {work}/chaos.log")
        logs = [(pathlib.Path(work) / f"chaos/logs/{name}.log").read_text() for name in ("prototype", "parameter")]
        for name, log in zip(("prototype", "parameter"), logs):
            chaos.check(f"{name}: the lie was told and refused", "event=rewind_refused" in log and "event=rewound" not in log)
        chaos.same(whole, run, ["encoder.safetensors", "mixture.safetensors"])
        torn(work, options, whole)
    finally:
        if not chaos.failed or not os.environ.get("KEEP"):
            shutil.rmtree(work)
    print(f"{chaos.passed} passed, {chaos.failed} failed")
    return chaos.failed != 0


if __name__ == "__main__":
    sys.exit(main())
