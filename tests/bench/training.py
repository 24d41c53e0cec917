#!/usr/bin/env python3
"""The real training run, measured from outside: how long until its first step, how much memory a worker takes, images/s with
1 and 2 workers, and where a worker's time goes.

  BUILD=build tests/bench/training.py [STEPS]     (default 300 steps of deploy/configs/fashion-mnist.ini)
  BUILD=build tests/bench/training.py start       (the first two alone)
  BUILD=build tests/bench/training.py large [STEPS]   (K = 65 536 prototypes in 256 dimensions, two workers, 100 steps)

First step: seconds from the start of the launcher to the first step's metrics, for each data.cache; of the file, once it is
there. Memory of a worker then, MiB: resident, of that its own (anonymous) and mapped files, which workers of a machine share.

large prints besides: CPU time of a worker's compute thread for an image, when the first diagnostics came, and the most memory that
a worker and the prototype server held.

Shares are of the wall time of a worker's compute thread between the first and the last metrics line: augment, forward, backward and
E-step as the workers report them, scaled by the CPU time of the thread named "compute"; wire is the CPU time of the
worker's other threads (event loop, ZeroMQ); wait is what is left."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = ("augment", "forward", "backward", "estep")


LARGE = ("mixture.components=65536", "mixture.dimensions=256", "run.checkpoint_every=0", "run.log_every=5")


def children_of(parent, program="decant-worker"):
    """Process ids of the children of `parent` that run a program; its name as the kernel cuts it."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (entry / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        if name.endswith("(" + program[:15]) and int(rest.split()[1]) == parent:
            found.append(int(entry.name))
    return found


def thread_seconds(pid):
    """CPU seconds of a process by thread name."""
    seconds = {}
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, rest = (task / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        user, system = rest.split()[11:13]
        name = name.split("(", 1)[1]
        seconds[name] = seconds.get(name, 0) + (int(user) + int(system)) / TICKS
    return seconds


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def sample(launcher, metrics):
    """(time, [threads of each worker], metrics lines so far)"""
    return time.monotonic(), [thread_seconds(p) for p in children_of(launcher.pid)], lines_of(metrics)


def launch(out, workers, steps, *more):
    command = [BUILD / "bin/decant", "train", "--config", "deploy/configs/fashion-mnist.ini", "--out", f"{out}/run", "--no-redis",
               "--no-eval", "--workers", str(workers), "--set", f"run.steps={steps}"]
    for assignment in more:
        command += ["--set", assignment]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def memory(pid, keys=("VmRSS", "RssAnon", "RssFile")):
    """(resident, anonymous, of files), MiB."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return [int(status[key].split()[0]) / 1024 for key in keys]


def start(out, cache):
    """Runs until the first metrics and says how it was then."""
    begin = time.monotonic()
    launcher = launch(out, 1, 1000000, "run.log_every=1", f"data.cache={cache}", f"data.cache_directory={out}/cache")
    try:
        while not lines_of(pathlib.Path(out) / "run/metrics-parameter.jsonl"):
            if launcher.poll() is not None:
                sys.exit(f"decant train exited {launcher.returncode}")
            time.sleep(0.005)
        return time.monotonic() - begin, memory(children_of(launcher.pid)[0])
    finally:
        launcher.terminate()
        launcher.wait()


def starts():
    for cache in ("memory", "file"):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            if cache == "file":
                start(first, cache)
                os.rename(f"{first}/cache", f"{second}/cache")
            seconds, (resident, own, files) = start(second, cache)
        print(f"bench=start cache={cache} first_step_s={seconds:.2f} resident_mib={resident:.0f} anonymous_mib={own:.0f} "
              f"files_mib={files:.0f}", flush=True)


def most(launcher, program):
    """MiB that the largest of these processes has ever held."""
    found = [0.0]
    for pid in children_of(launcher.pid, program):
        try:
            found += memory(pid, ("VmHWM",))
        except (OSError, KeyError):
            pass  # about to end
    return max(found)


def run(workers, steps, *more, peaks=None):
    """peaks: a dict of programs, whose values are raised to what they held."""
    with tempfile.TemporaryDirectory() as out:
        launcher, began = launch(out, workers, steps, *more), time.time()
        metrics = pathlib.Path(out) / "run/metrics-parameter.jsonl"
        first = last = None
        while launcher.poll() is None:
            now = sample(launcher, metrics)
            for program in peaks or ():
                peaks[program] = max(peaks[program], most(launcher, program))
            # A worker that is about to end has no compute threads any more.
            if len(now[1]) == workers and all("compute" in threads for threads in now[1]) and now[2]:
                first, last = first or now, now
            time.sleep(0.2 if first is None else 1)  # looking takes from what is measured
        if launcher.returncode != 0 or first is last:
            sys.exit(f"decant train exited {launcher.returncode} (or was too short to measure)")
        if peaks is not None:
            report_large(first, last, lines_of(metrics), began, pathlib.Path(out) / "run/metrics-prototype.jsonl")
        return report(workers, first, last, lines_of(metrics)[1:])


def compute_seconds(now):
    return sum(threads["compute"] for threads in now[1])


def report_large(first, last, lines, began, prototype):
    """Steps of deploy/configs/fashion-mnist.ini are of 384 images."""
    images = 384 * (last[2][-1]["step"] - first[2][-1]["step"])
    cpu = (compute_seconds(last) - compute_seconds(first)) / images if images else float("nan")
    shown = [l["time"] - began for l in lines_of(prototype) if "unique_01" in l]
    print(f"bench=large compute_cpu_us={1e6 * cpu:.0f} steps={lines[-1]['step']} "
          f"first_diagnostics_s={shown[0] if shown else float('nan'):.0f} load={os.getloadavg()[0]:.1f}")


def report(workers, first, last, lines):
    wall = (last[0] - first[0]) * workers
    spent = {}
    for before, after in zip(first[1], last[1]):
        for name, seconds in after.items():
            kind = "compute" if name == "compute" else "wire"
            spent[kind] = spent.get(kind, 0) + seconds - before.get(name, 0)
    busy = spent["compute"] / wall
    shares = {p: busy * sum(l[p + "_share"] for l in lines) / len(lines) for p in PARTS}
    shares["wire"] = spent.get("wire", 0) / wall
    shares["wait"] = max(0.0, 1 - sum(shares.values()))
    rate = sorted(l["images_per_s"] for l in lines)[len(lines) // 2]
    print(f"bench=training workers={workers} images_per_s={rate:.0f} " + " ".join(f"{k}={100 * v:.1f}%" for k, v in shares.items()))
    return rate


def large(steps):
    peaks = {"decant-worker": 0.0, "decant-prototype": 0.0}
    run(2, steps, *LARGE, peaks=peaks)
    print(f"bench=memory worker_most_mib={peaks['decant-worker']:.0f} prototype_most_mib={peaks['decant-prototype']:.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["large"]:
        large(int(sys.argv[2]) if len(sys.argv) > 2 else 100)
        sys.exit()
    starts()
    if sys.argv[1:] == ["start"]:
        sys.exit()
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    one, two = run(1, steps), run(2, steps)
    print(f"bench=scaling workers=2/1 ratio={two / one:.2f}")
