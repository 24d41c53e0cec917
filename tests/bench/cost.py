#!/usr/bin/env python3
"""What determinism, leases and checkpoints cost, and how two workers scale.

  BUILD=build tests/bench/cost.py [--rounds N] [--seconds S] [--set KEY=VALUE ...]

In turns, so that drift of the machine cancels:
  loop     the slots' arithmetic alone, one thread, no server (bench_slots)
  whole    decant train, one worker that holds every slot of a step (worker.ahead = run.slots), no checkpoints
  default  decant train, one worker, default settings, a checkpoint every 50 steps
  two      as default, two workers
Prints images/s of each and the CPU time of an image in all processes, then ratios of images/s within a round and of CPU time: median,
lowest and highest. Targets: default/whole and default/loop at least 0.95, two/default at least 1.85, on two idle cores: `others` is how many
cores somebody else computed on meanwhile. CPU time says what remains true on a busy machine, but nothing about waiting."""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "e2e"))
from chaos import BUILD, Run, free_ports, settings  # noqa: E402

import signal  # noqa: E402

WARM_STEPS = 15  # dense statistics, cold caches
TICKS = os.sysconf("SC_CLK_TCK")
RATIOS = [("whole", "loop"), ("default", "whole"), ("default", "loop"), ("two", "default")]


def machine_seconds():
    """CPU time of all processes, and of those that this one has waited for."""
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    own = os.times()
    busy = (sum(fields[:3]) + sum(fields[5:8])) / TICKS
    return busy, own.user + own.system + own.children_user + own.children_system


def loop(o):
    """Images/s, CPU seconds of an image."""
    out = subprocess.run([BUILD / "bench/bench_slots", str(o.seconds), *o.settings], stdout=subprocess.PIPE, check=True, text=True).stdout
    values = dict(word.split("=") for word in out.split())
    return float(values["images_per_s"]), float(values["cpu_us"]) * 1e-6


def cpu_seconds(pids):
    fields = [pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


def next_line(run, pids):
    """Waits for a line of metrics: (time, step, CPU seconds of the processes)."""
    before = run.step()
    while run.step() == before:
        if run.over():
            sys.exit(f"the run ended at step {before}: see {run.out}.log")
        time.sleep(0.02)
    return time.monotonic(), run.step(), cpu_seconds(pids)


def train(o, kind):
    """Images/s after the first WARM_STEPS steps, CPU seconds of an image in servers and workers."""
    options = ["run.steps=1000000"] + o.settings
    options += ["run.checkpoint_every=0", f"worker.ahead={o.slots}"] if kind == "whole" else ["run.checkpoint_every=50"]
    with tempfile.TemporaryDirectory(prefix="decant-cost-") as work:
        run = Run(f"{work}/run", options, 2 if kind == "two" else 1, free_ports(4))
        while run.step() < WARM_STEPS and not run.over():
            time.sleep(0.1)
        pids = run.pids().values()
        begin, first, before = next_line(run, pids)
        time.sleep(o.seconds)
        end, last, after = next_line(run, pids)
        run.launcher.send_signal(signal.SIGINT)
        run.wait(60)
    images = o.slots * o.slot_size * (last - first)
    return images / (end - begin), (after - before) / images


def measured(o, kind):
    busy, own = machine_seconds()
    begin = time.monotonic()
    rate, cpu = loop(o) if kind == "loop" else train(o, kind)
    after_busy, after_own = machine_seconds()
    others = max(0, after_busy - busy - (after_own - own)) / (time.monotonic() - begin)
    print(f"bench=cost kind={kind} images_per_s={rate:.0f} cpu_us_per_image={cpu * 1e6:.1f} others={others:.2f}", flush=True)
    return rate, cpu


def configuration(o):
    text = subprocess.run([BUILD / "bin/decant", "config", *settings(o.settings)], stdout=subprocess.PIPE, check=True, text=True).stdout
    run = text.split("[run]")[1].split("\n[")[0]
    values = dict(line.split(" = ", 1) for line in run.split("\n") if " = " in line)
    o.slots, o.slot_size = int(values["slots"]), int(values["slot_size"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    o = parser.parse_args()
    configuration(o)
    rounds = [{kind: measured(o, kind) for kind in ("loop", "whole", "default", "two")} for _ in range(o.rounds)]
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    for of, (a, b) in [(i, pair) for i in range(2) for pair in RATIOS]:
        ratios = [r[a][of] / r[b][of] for r in rounds]
        print(f"bench=cost {('ratio', 'cpu_ratio')[of]}={a}/{b} n={len(ratios)} median={statistics.median(ratios):.3f} "
              f"lowest={min(ratios):.3f} highest={max(ratios):.3f} load_average={load}")


if __name__ == "__main__":
    main()
