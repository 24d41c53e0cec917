#!/usr/bin/env python3
"""A training run for as long as wanted, in which nothing is left alone: workers come and go, processes are killed and frozen, the network
of some is bad, a Redis comes and goes, metrics are scraped, subscribers stall. Memory and descriptors of both servers are sampled.

    BUILD=build tests/e2e/soak.py [--minutes N] [--seed S]

The servers themselves are killed during the first tenth only, so that one process of each lives through the rest and its growth can be
seen; they are frozen until the end. It fails when a server's memory or descriptors grow beyond GROWTH over the second half (medians of
its first and its last fifth are compared: single samples jump with whoever stalls at the moment), when a server ends in the last nine
tenths, or when the bytes differ from those of an undisturbed run, which follows and takes about as long."""
import argparse
import http.client
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "py"))
import chaos  # noqa: E402
from chaos import Chaos, Run, check, free_ports  # noqa: E402
from test_crowd import stalled_subscriber  # noqa: E402

SERVERS = ("parameter", "prototype")
GROWTH = {"VmRSS": 8192, "VmHWM": 16384, "fds": 16}  # kB, kB and number, over the second half
WINDOWS = ((0.1, 0.2), (0.5, 0.6), (0.9, 1))  # "after 10%", the begin and the end of the second half, as shares of the time
GUESTS_MAX = 4
KEEP_EVERY = 500  # steps; one of these is compared
PACE_S = (0.5, 6)  # between two acts
OPTIONS = [o for o in chaos.SMALL if not o.startswith(("run.log_every", "run.checkpoint_every"))] + [
    "run.steps=100000000", "run.log_every=10", "run.checkpoint_every=50", f"run.checkpoint_keep_every={KEEP_EVERY}"]


class Redis:
    """One that can be gone and come back at the same port, and has forgotten everything then."""

    def __init__(self, work, port):
        self.command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", work, "--save", "", "--appendonly", "no"]
        self.process = None

    def toggle(self):
        if self.process is not None:
            self.stop()
            return "redis gone"
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return "redis back"

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None


class Soak(Chaos):
    def __init__(self, run, rng, ports, proxied, redis):
        super().__init__(run, rng, OPTIONS, ports, proxied)
        self.redis, self.stalled, self.spared = redis, [], ()

    def acts(self):
        return {self.kill: 6 if self.spared else 30, self.freeze: 4, self.join: 4, self.leave: 2, self.cut: 2, self.redis.toggle: 3, self.stall: 3}

    def victims(self):
        return [v for v in super().victims() if v[0] not in self.spared]

    def freeze(self):
        spared, self.spared = self.spared, ()
        what = super().freeze()
        self.spared = spared
        return what

    def join(self):
        alive = sum(g.poll() is None for g in self.guests)
        return super().join() if alive < GUESTS_MAX else self.leave()

    def stall(self):
        """A subscriber of everything that never reads, in the place of the one before it."""
        for s in self.stalled:
            s.close()
        self.stalled = []
        try:
            for port in (self.ports[1], self.ports[3]):
                self.stalled.append(stalled_subscriber(f"tcp://127.0.0.1:{port}", b""))
        except (OSError, AssertionError):
            return "stall: the server was away"
        return "stall"

    def end(self):
        for s in self.stalled:
            s.close()
        self.redis.stop()
        super().end()


# ---- samples ----

def status_of(pid):
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    sample = {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}
    sample["fds"] = sum(1 for _ in pathlib.Path(f"/proc/{pid}/fd").iterdir())
    return sample


class Samples:
    def __init__(self, run, metrics_ports):
        self.run, self.metrics_ports = run, metrics_ports
        self.of = {name: [] for name in SERVERS}  # (seconds, pid, figures)
        self.scrapes = dict.fromkeys(SERVERS, 0)
        self.start = time.monotonic()

    def take(self):
        pids = self.run.pids()
        for name, port in zip(SERVERS, self.metrics_ports):
            self.scrapes[name] += scrape(port)
            try:
                self.of[name].append((time.monotonic() - self.start, pids[name], status_of(pids[name])))
            except (KeyError, OSError):
                pass  # it is being started again

    def restarts_since(self, name, seconds):
        return len({pid for at, pid, _ in self.of[name] if at >= seconds}) - 1

    def values(self, name, figure, begin, end):
        return [(at, s[figure]) for at, _, s in self.of[name] if begin <= at <= end]


def scrape(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().startswith(b"#")
    except (OSError, http.client.HTTPException):
        return False  # frozen, or being started again
    finally:
        connection.close()


def slope(points):
    """Least squares, per hour."""
    x, y = [p[0] / 3600 for p in points], [p[1] for p in points]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mx) ** 2 for a in x)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / spread if spread else 0.0


def judge(samples, total):
    def median(name, figure, window):
        return statistics.median(v for _, v in samples.values(name, figure, window[0] * total, window[1] * total))

    settled, middle, last = WINDOWS
    print(f"{'server':<10} {'figure':<6} {'start':>9} {'after 10%':>9} {'end':>9} {'growth':>9} {'bound':>7} {'slope/h':>9}")
    for name in SERVERS:
        if not all(samples.values(name, "fds", begin * total, end * total) for begin, end in WINDOWS):
            check(f"{name}: it was there all the time", False, "no sample in one of the windows")
            continue
        for figure, bound in GROWTH.items():
            first = samples.of[name][0][2][figure]
            growth = median(name, figure, last) - median(name, figure, middle)
            rate = slope(samples.values(name, figure, total / 2, total))
            print(f"{name:<10} {figure:<6} {first:>9} {median(name, figure, settled):>9.0f} {median(name, figure, last):>9.0f} "
                  f"{growth:>9.0f} {bound:>7} {rate:>9.0f}")
            check(f"{name}: {figure} of the second half grew by at most {bound}", growth <= bound, f"it grew by {growth:.0f}")
        check(f"{name}: one process through the last nine tenths", samples.restarts_since(name, 0.11 * total) == 0,
              f"{samples.restarts_since(name, 0.11 * total)} restarts")
        check(f"{name}: metrics were scraped", samples.scrapes[name] > len(samples.of[name]) / 2, f"{samples.scrapes[name]} times")


# ---- the two runs ----

def train_for(work, rng, seconds):
    ports = free_ports(11)
    metrics = [f"metrics.{name}=127.0.0.1:{port}" for name, port in zip(SERVERS, ports[8:10])]
    redis = Redis(work, ports[10])
    redis.toggle()
    run = Run(f"{work}/soak", OPTIONS + metrics, 2, ports[:4], ("--redis", f"127.0.0.1:{ports[10]}"))
    soak = Soak(run, rng, ports[:4], ports[4:8], redis)
    samples = Samples(run, ports[8:10])
    next_act = 0
    try:
        while (now := time.monotonic() - samples.start) < seconds and not run.over():
            soak.spared = () if now < seconds / 10 else SERVERS
            samples.take()
            soak.wake()
            if now >= next_act and run.step() > 0:
                soak.once()
                next_act = now + rng.uniform(*PACE_S)
            time.sleep(0.5)
        step = run.step()
        check("it trained to the end", not run.over() and step > KEEP_EVERY, f"step {step}, see {work}/soak.log")
        print(f"      step {step}; {dict(soak.counts)}; scrapes {samples.scrapes}; proxy: {soak.proxy.cuts} cuts, {soak.proxy.clogs} clogs")
    finally:
        soak.wake(everyone=True)
        stop(run, "soak")
        soak.end()
    judge(samples, seconds)
    return run


def stop(run, name):
    if not run.over():
        run.launcher.terminate()
    code = run.wait(120)
    check(f"{name}: it stopped in order", code == 130, f"exit {code}")


def newest_kept(run):
    steps = [int(p.parent.name.removeprefix("step-")) for p in run.out.glob("checkpoints/step-*/encoder.safetensors")]
    return max((s for s in steps if s % KEEP_EVERY == 0), default=0)


def train_undisturbed(work, step):
    run = Run(f"{work}/whole", OPTIONS + [f"run.checkpoint_every={KEEP_EVERY}"], 2, free_ports(4))
    until = time.monotonic() + 60 + step  # a step takes far less than a second
    while newest_kept(run) < step and not run.over() and time.monotonic() < until:
        time.sleep(0.5)
    stop(run, "undisturbed")
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    o = parser.parse_args()
    print(f"seed {o.seed}", flush=True)
    work = tempfile.mkdtemp(prefix="decant-soak-")
    try:
        run = train_for(work, random.Random(o.seed), o.minutes * 60)
        step = newest_kept(run)
        chaos.same(train_undisturbed(work, step), run, ["encoder.safetensors", "mixture.safetensors"], f"step-{step:06}")
    finally:
        if chaos.failed:
            print(f"kept for a look: {work}; seed {o.seed}")
        else:
            shutil.rmtree(work)
    print(f"{chaos.passed} passed, {chaos.failed} failed")
    return chaos.failed != 0


if __name__ == "__main__":
    sys.exit(main())
