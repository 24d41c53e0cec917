#!/usr/bin/env python3
"""How long a real training run needs after one of its processes was killed: a worker, the parameter server, the prototype server, one
after the other.

  BUILD=build tests/bench/recovery.py [--rounds N] [--workers W] [--set KEY=VALUE ...]

A step is a line of metrics-parameter.jsonl (run.log_every = 1). `before` is the rate of the five seconds before the kill, `after` that of
the last seconds of the LOOK_S that follow it, `stall` the longest time without a step in between. `recovered` is the time from the kill to
the first moment after the stall from which a second of steps holds 90 % of the smaller of both: of `after` too, because a busy machine drifts
within seconds. Where `after` is under 60 % of `before`, nothing has recovered. Prints one line per kill, then for each kind of victim the
median and the worst, then the load average, without which no figure means much. Target: under 3 s."""
import argparse
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "e2e"))
from chaos import Run, free_ports, send  # noqa: E402

BEFORE_S, LOOK_S, AFTER_S, WINDOW_S = 5, 10, 4, 1.0
KEPT, LOST = 0.9, 0.6
INTERRUPTED = 130  # exit code
# Small steps, so that a second holds many; all the images, so that a worker's start takes what it takes.
OPTIONS = ["mixture.components=256", "mixture.dimensions=32", "head.hidden=64", "run.slots=4", "run.slot_size=16",
           "encoder.widths=8,16,32,64", "run.log_every=1", "run.checkpoint_every=100", "run.steps=1000000"]


class Steps(threading.Thread):
    """Moments at which steps ended, as they are written."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.times, self.over = path, [], False

    def run(self):
        while not self.path.exists() and not self.over:
            time.sleep(0.02)
        with open(self.path, "rb") as f:
            while not self.over:
                lines = f.read().count(b"\n")
                self.times += [time.monotonic()] * lines
                time.sleep(0.01)

    def between(self, begin, end):
        return [t for t in self.times if begin <= t < end]


def until_steady(steps, deadline_s=60):
    begin = time.monotonic()
    while len(steps.times) < 20:
        if time.monotonic() - begin > deadline_s:
            sys.exit("the run does not get going")
        time.sleep(0.1)
    time.sleep(BEFORE_S)


def recovery(steps, killed, rate):
    """(stall, recovered) in seconds; recovered is None when it did not within LOOK_S. rate: the one to come back to."""
    after = [killed] + steps.between(killed, killed + LOOK_S)
    gaps = [(b - a, b) for a, b in zip(after, after[1:])] or [(LOOK_S, killed + LOOK_S)]
    stall, resumed = max(gaps)
    if stall < 3 * WINDOW_S / rate / KEPT:  # no gap: others went on meanwhile
        resumed = killed
    for t in [resumed] + [t for t in after if t > resumed]:
        if t + WINDOW_S > killed + LOOK_S:
            break
        if len(steps.between(t, t + WINDOW_S)) >= KEPT * rate * WINDOW_S:
            return stall, t - killed
    return stall, None


def kill_one(run, steps, victim):
    pid = run.pids()[victim]
    killed = time.monotonic()
    before = len(steps.between(killed - BEFORE_S, killed)) / BEFORE_S
    send(pid, signal.SIGKILL)
    time.sleep(LOOK_S)
    after = len(steps.between(killed + LOOK_S - AFTER_S, killed + LOOK_S)) / AFTER_S
    stall, recovered = recovery(steps, killed, max(1, min(before, after)))
    recovered = recovered if after > LOST * before else None
    text = "-" if recovered is None else f"{recovered:.2f}"
    print(f"bench=recovery victim={victim} before_steps_per_s={before:.1f} after_steps_per_s={after:.1f} stall_s={stall:.2f} "
          f"recovered_s={text}", flush=True)
    return stall, recovered


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    o = parser.parse_args()
    victims = ["worker-1", "parameter", "prototype"]
    results = {v: [] for v in victims}
    with tempfile.TemporaryDirectory(prefix="decant-recovery-") as work:
        run = Run(f"{work}/run", OPTIONS + o.settings, o.workers, free_ports(4))
        steps = Steps(run.out / "metrics-parameter.jsonl")
        steps.start()
        try:
            until_steady(steps)
            for victim in victims * o.rounds:
                results[victim].append(kill_one(run, steps, victim))
        finally:
            steps.over = True
            run.launcher.send_signal(signal.SIGINT)
            if run.wait(60) != INTERRUPTED:
                print(f"decant train exited {run.launcher.returncode}")
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    for victim, pairs in results.items():
        stalls, times = [p[0] for p in pairs], [LOOK_S if p[1] is None else p[1] for p in pairs]
        print(f"bench=recovered victim={victim} n={len(pairs)} stall_median_s={statistics.median(stalls):.2f} "
              f"median_s={statistics.median(times):.2f} worst_s={max(times):.2f} load_average={load}")


if __name__ == "__main__":
    main()
