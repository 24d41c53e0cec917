#!/usr/bin/env python3
"""Publications through a relay that knows nothing of Decant, ZeroMQ's own XSUB-XPUB proxy: workers that subscribe to it instead of the servers
finish every step. So the servers' fan-out can be spread over machines without any change (docs/SCALING.md)."""
import pathlib
import subprocess
import sys
import tempfile
import threading

import zmq

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "e2e"))
from chaos import BUILD, KEYS, free_ports, settings  # noqa: E402

STEPS, SLOTS, EXIT_S = 30, 4, 60  # STEPS as in bench_load --quick


def relay(context, upstream, downstream):
    sub, pub = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    sub.linger = pub.linger = 0
    sub.connect(f"tcp://127.0.0.1:{upstream}")
    pub.bind(f"tcp://127.0.0.1:{downstream}")
    try:
        zmq.proxy(sub, pub)
    except zmq.ContextTerminated:
        sub.close()
        pub.close()


def server(name, options, work):
    log = open(f"{work}/{name}.log", "wb")
    return subprocess.Popen([BUILD / f"bin/decant-{name}", *options], stderr=log)


def main():
    ports = free_ports(6)
    own, relayed = ports[:4], [ports[0], ports[4], ports[2], ports[5]]
    with tempfile.TemporaryDirectory(prefix="decant-relay-") as work:
        common = ["run.name=load", f"run.slots={SLOTS}", f"run.steps={STEPS}", "run.checkpoint_every=0", f"run.out={work}/run"]
        places = [settings(common + [f"{k}=tcp://127.0.0.1:{p}" for k, p in zip(KEYS, some)]) for some in (own, relayed)]
        context = zmq.Context()
        threads = [threading.Thread(target=relay, args=(context, *pair)) for pair in ((own[1], relayed[1]), (own[3], relayed[3]))]
        for t in threads:
            t.start()
        servers = [server(name, places[0], work) for name in ("parameter", "prototype")]
        try:
            command = [BUILD / "bench/bench_load", "--quick", "--workers", str(SLOTS), "--attach", *places[1]]
            good = subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
            good = good and [s.wait(EXIT_S) for s in servers] == [0, 0]
        finally:
            for s in servers:
                s.kill()
            context.term()
            for t in threads:
                t.join()
    print(("ok   " if good else "FAIL ") + " all steps through relays")
    print(f"{int(good)} passed, {int(not good)} failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
