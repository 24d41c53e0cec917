#!/usr/bin/env python3
"""Kills and freezes the real processes of a training run at random moments, lets workers come and go, and spoils the network of some;
then compares the checkpoint with that of an undisturbed run, byte for byte.

    BUILD=build tests/e2e/chaos.py [--faults N] [--seed S] [--steps T] [--joint]

A failure prints the seed; the moments themselves depend on the machine, so a replay is likely, not certain, to find the same."""
import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from faulty_proxy import FaultyProxy  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
DEADLINE_S = 900  # of one run; far beyond what any needs
SMALL = ["mixture.components=256", "mixture.dimensions=32", "head.hidden=64", "data.limit=4096", "run.slots=4", "run.slot_size=16",
         "encoder.widths=8,16,32,64", "run.log_every=1", "run.checkpoint_every=25"]
KEYS = ("net.parameter", "net.parameter_publish", "net.prototype", "net.prototype_publish")
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok    " if good else "FAIL  ") + name + ("" if good else f"  {detail}"), flush=True)


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def settings(pairs):
    return [word for pair in pairs for word in ("--set", pair)]


def endpoints(ports):
    return [f"{key}=tcp://127.0.0.1:{port}" for key, port in zip(KEYS, ports)]


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("DECANT_")}


class Run:
    """A launcher with its processes, in a directory of its own."""

    def __init__(self, out, options, workers, ports, arguments=("--no-redis",)):
        self.out = pathlib.Path(out)
        self.log = open(f"{out}.log", "wb")
        command = [BUILD / "bin/decant", "train", "--run", "chaos", "--out", out, "--no-eval", "--workers", str(workers), *arguments]
        self.launcher = subprocess.Popen(command + settings(options + endpoints(ports)), stdout=self.log, stderr=self.log,
                                         stdin=subprocess.DEVNULL, env=environment())

    def pids(self):
        try:
            lines = (self.out / "pids").read_text().split("\n")
        except OSError:
            return {}
        named = dict(line.split() for line in lines if line)
        return {name: int(pid) for name, pid in named.items() if name != "launcher"}

    def step(self):
        try:
            with open(self.out / "metrics-parameter.jsonl", "rb") as f:
                f.seek(max(0, os.fstat(f.fileno()).st_size - 8192))  # a line and more, however many counters it has
                line = f.read().split(b"\n")[-2]
            return int(line.split(b'"step":')[1].split(b",")[0].split(b"}")[0])
        except (OSError, IndexError, ValueError):
            return 0

    def over(self):
        return self.launcher.poll() is not None

    def wait(self, seconds):
        try:
            return self.launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            self.launcher.send_signal(signal.SIGINT)
            time.sleep(5)
            self.launcher.kill()
            for pid in self.pids().values():
                send(pid, signal.SIGKILL)
            return None


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Chaos:
    def __init__(self, run, rng, options, ports, proxied):
        self.run, self.rng, self.options = run, rng, options
        self.ports, self.proxied = ports, proxied
        self.proxy = FaultyProxy(dict(zip(proxied, ports)), rng)
        self.proxy.start()
        self.guests = []  # workers beside those of the launcher
        self.frozen = []  # (wake time, pid)
        self.counts = collections.Counter()

    def victims(self):
        named = list(self.run.pids().items())
        return named + [("guest", g.pid) for g in self.guests if g.poll() is None]

    def kill(self):
        name, pid = self.rng.choice(self.victims())
        send(pid, signal.SIGKILL)
        return "kill " + name.split("-")[0]

    def freeze(self):
        name, pid = self.rng.choice(self.victims())
        send(pid, signal.SIGSTOP)
        self.frozen.append((time.monotonic() + self.rng.uniform(0.2, 3), pid))
        return "freeze " + name.split("-")[0]

    def join(self):
        behind_proxy = self.rng.random() < 0.7
        command = [BUILD / "bin/decant-worker", "--config", self.run.out / "config.ini"]
        log = open(f"{self.run.out}.guest-{len(self.guests)}.log", "wb")
        places = settings(endpoints(self.proxied if behind_proxy else self.ports))
        self.guests.append(subprocess.Popen(command + places, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment()))
        return "join"

    def leave(self):
        alive = [g for g in self.guests if g.poll() is None]
        if not alive:
            return self.join()
        self.rng.choice(alive).send_signal(signal.SIGTERM)
        return "leave"

    def cut(self):
        self.proxy.cut()
        return "cut"

    def wake(self, everyone=False):
        now = time.monotonic()
        for at, pid in self.frozen:
            if everyone or now >= at:
                send(pid, signal.SIGCONT)
        self.frozen = [] if everyone else [f for f in self.frozen if f[0] > now]

    def acts(self):
        """What may happen, and how likely each is."""
        return {self.kill: 10, self.freeze: 4, self.join: 2, self.leave: 1, self.cut: 2}

    def once(self):
        acts = self.acts()
        act = self.rng.choices(list(acts), list(acts.values()))[0]
        if not self.victims():
            return
        what = act()
        self.counts[what] += 1
        print(f"      step {self.run.step()}: {what}", flush=True)

    def end(self):
        self.wake(everyone=True)
        self.proxy.stop()
        for guest in self.guests:
            send(guest.pid, signal.SIGCONT)
            if guest.poll() is None:
                guest.terminate()
            try:
                guest.wait(30)
            except subprocess.TimeoutExpired:
                guest.kill()
                guest.wait()

    def kills(self):
        return sum(n for what, n in self.counts.items() if what.startswith(("kill", "freeze")))


def undisturbed(work, options):
    run = Run(f"{work}/whole", options, 1, free_ports(4))
    check("undisturbed run with one worker", run.wait(DEADLINE_S) == 0, f"see {work}/whole.log")
    return run


def disturbed(work, options, rng, faults):
    ports = free_ports(8)
    run = Run(f"{work}/chaos", options, 2, ports[:4])
    chaos = Chaos(run, rng, options, ports[:4], ports[4:])
    started = time.monotonic()
    while run.step() < 20 and not run.over() and time.monotonic() - started < 60:
        time.sleep(0.1)
    chaos.join()
    until = time.monotonic() + DEADLINE_S
    while chaos.kills() < faults and not run.over() and time.monotonic() < until:
        pause = time.monotonic() + rng.uniform(0.1, 2.5)
        while time.monotonic() < pause:
            chaos.wake()
            time.sleep(0.05)
        chaos.once()
    chaos.wake(everyone=True)
    at = run.step()
    code = run.wait(DEADLINE_S)
    chaos.end()
    print(f"      {dict(chaos.counts)}; proxy: {chaos.proxy.cuts} cuts, {chaos.proxy.clogs} clogs, {chaos.proxy.bytes >> 20} MiB; "
          f"{time.monotonic() - started:.0f} s")
    check(f"the run ended by itself, after {chaos.kills()} kills and freezes", code == 0, f"exit {code}, see {work}/chaos.log")
    check("all faults came while it ran", chaos.kills() >= faults, f"it was over at step {at}: give more --steps")
    return run


def same(a, b, names, step="step-*"):
    """Of the newest step that fits the pattern."""
    for name in names:
        files = [max(run.out.glob(f"checkpoints/{step}/{name}"), default=None) for run in (a, b)]
        good = None not in files and files[0].parent.name == files[1].parent.name and files[0].read_bytes() == files[1].read_bytes()
        check(f"same bytes: {name}", good, f"{files}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--joint", action="store_true")
    parser.add_argument("--lag", type=int, default=1)
    o = parser.parse_args()
    print(f"seed {o.seed}", flush=True)
    options = SMALL + [f"run.steps={o.steps}", f"mixture.prototype_lag={o.lag}"] + (["loss.prototypes=joint"] if o.joint else [])
    work = tempfile.mkdtemp(prefix="decant-chaos-")
    try:
        whole = undisturbed(work, options)
        names = ["encoder.safetensors"] + ([] if o.joint else ["mixture.safetensors"])
        same(whole, disturbed(work, options, random.Random(o.seed), o.faults), names)
    finally:
        if failed:
            print(f"kept for a look: {work}; seed {o.seed}")
        else:
            shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
