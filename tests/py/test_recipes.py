#!/usr/bin/env python3
"""The recipes of docs/REDIS.md, as they stand there, against a live run: each command runs, and what it says makes sense.

A recipe without a check here, or a check without a recipe, is a failure. Ends with "N passed, M failed"."""
import json
import os
import re
import subprocess
import sys
from datetime import datetime

import numpy as np
import redis

from live_run import BUILD, LiveRun, run_tests, wait_for

RUN = "fashion-mnist"  # the name in the Python recipe
DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/REDIS.md")


def recipes():
    """{title: (language, code)} of the fenced blocks below "## Recipes"."""
    with open(DOC, encoding="utf-8") as f:
        section = f.read().split("\n## Recipes\n", 1)[1].split("\n## ", 1)[0]
    parts = re.split(r"^### (.+)$", section, flags=re.M)[1:]
    return {title: re.search(r"^```(\w+)\n(.*?)^```", text, re.M | re.S).groups()
            for title, text in zip(parts[::2], parts[1::2])}


class Case:
    def __init__(self, live):
        self.live = live
        self.recipes = recipes()
        self.used = set()
        self.K, self.D = live.settings["mixture.components"], live.settings["mixture.dimensions"]
        tools = os.path.join(live.directory, "bin")
        os.mkdir(tools)
        with open(os.path.join(tools, "redis-cli"), "w", encoding="utf-8") as f:  # the reader's Redis is at the default place
            f.write(f'#!/bin/sh\nexec {subprocess.check_output(["which", "redis-cli"], text=True).strip()} -s {live.socket} "$@"\n')
        os.chmod(os.path.join(tools, "redis-cli"), 0o755)
        self.environment = {**os.environ, "RUN": RUN, "PATH": tools + ":" + os.environ["PATH"]}

    def take(self, title, language="sh"):
        self.used.add(title)
        found, code = self.recipes[title]
        assert found == language, (title, found)
        return code

    def shell(self, title, timeout=20):
        """The lines that the recipe prints."""
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", self.take(title)], env=self.environment, text=True,
                              capture_output=True, timeout=timeout, check=True)
        assert done.stderr == "", done.stderr
        return done.stdout.split("\n")[:-1]

    def test_ten_most_used(self):
        lines = self.shell("The ten most used prototypes")
        assert len(lines) == 20, lines
        usage = [float(x) for x in lines[1::2]]
        assert all(0 <= int(k) < self.K for k in lines[::2]) and len(set(lines[::2])) == 10
        assert usage == sorted(usage, reverse=True) and 0 < usage[0] <= 1

    def test_closest_pair(self):
        k, nearest, cosine = self.shell("The closest pair")[0].split()
        assert k != nearest and 0 <= int(nearest) < self.K and -1 <= float(cosine) <= 1.0001, (k, nearest, cosine)

    def test_collapsing(self):
        wait_for("diagnostics", lambda: self.live.redis.hexists(f"decant:{RUN}", "unique_0025"))
        lines = self.shell("Is it collapsing?")
        version, fine, coarse, active, perplexity, rank = (float(x) for x in lines[:6])
        assert version > 0 and 0 < coarse <= fine <= 100 and 0 <= active <= 100
        assert 1 <= perplexity <= self.K + 1e-6 and 1 <= rank <= self.D + 1e-6
        assert 0 <= int(lines[6]) <= self.K
        assert "loglik" in lines and "unique_01" in lines

    def test_best_step(self):
        out, notes = self.live.settings["run.out"], []
        wait_for("a checkpoint", lambda: os.path.exists(os.path.join(out, "checkpoints/latest")))
        self.live.redis.xadd(f"decant:{RUN}:evaluation", {"step": 10**6, "knn": 1})  # of an earlier run
        for _ in range(2):
            subprocess.run([os.path.join(BUILD, "bin/decant"), "eval", "--note", "--checkpoint", out, "--bank", "300", "--set",
                            "redis.enabled=true", "--set", "redis.host=" + self.live.socket], check=True, capture_output=True)
        with open(os.path.join(out, "metrics-eval.jsonl"), encoding="utf-8") as f:
            notes = [json.loads(line) for line in f]
        lines = self.shell("How good are the features, and at which step were they best?")
        shown = [dict(zip(lines[i + 1:i + 17:2], map(float, lines[i + 2:i + 17:2]))) for i in range(0, len(lines), 17)]
        assert len(shown) == len(notes) == 2, (lines, notes)
        for a, b in zip(shown, notes[::-1]):
            assert a.keys() == b.keys() and all(a[k] == b[k] for k in a if k != "time"), (a, b)
        assert 10 < shown[0]["knn"] <= shown[0]["best"] <= 100
        elsewhere = subprocess.run([os.path.abspath(os.path.join(BUILD, "bin/decant")), "top", "--once", "--run", RUN, "--redis", self.live.socket],
                                   check=True, text=True, capture_output=True, cwd=self.live.directory).stdout
        assert f"{shown[0]['knn']:.1f}" in elsewhere and "k-NN" in elsewhere, elsewhere

    def test_slow_worker(self):
        wait_for("a rate", lambda: self.live.redis.hexists(
            f"decant:{RUN}:worker:" + self.live.redis.hkeys(f"decant:{RUN}:workers")[0].decode(), "images_per_s"))
        lines = self.shell("Which worker is slow?")
        assert len(lines) == 1, lines
        rate, behind, silent_ms, host = lines[0].split("\t")
        assert float(rate) >= 0 and int(behind) <= 20 and int(silent_ms) < 10000
        assert host.endswith(f":{self.live.processes['worker'].pid}")

    def test_age(self):
        updated, now, live = re.match(r"updated (\S+), now (\S+)\n(\d)$", "\n".join(self.shell("How old is what I see?"))).groups()
        age = (datetime.strptime(now, "%Y-%m-%dT%H:%M:%S.%fZ") - datetime.strptime(updated, "%Y-%m-%dT%H:%M:%S.%fZ")).total_seconds()
        assert -1 < age < 15 and live == "1", (age, live)

    def test_means_in_three_lines(self):
        code = self.take("All means as a numpy array (K, D)", "python")
        assert len(code.strip().split("\n")) == 3
        plain, names = redis.Redis, {}
        redis.Redis = lambda: plain(unix_socket_path=self.live.socket)
        try:
            exec(code, names)
        finally:
            redis.Redis = plain
        assert names["means"].shape == (self.K, self.D) and names["means"].dtype == np.float32
        assert np.isfinite(names["means"]).all() and np.abs(names["means"]).sum() > 0

    def test_watch(self):
        code = self.take("Watch what happens")  # never ends by itself: until the run's next checkpoint, every 20 steps
        with subprocess.Popen(["bash", "-c", "exec " + code], env=self.environment, text=True, stdout=subprocess.PIPE) as p:
            try:
                seen = ""
                while '"event":' not in seen:
                    line = p.stdout.readline()
                    assert line, seen
                    seen += line
            finally:
                p.kill()

    def test_every_recipe_was_run(self):
        assert self.used == set(self.recipes), self.used ^ set(self.recipes)


if __name__ == "__main__":
    with LiveRun(RUN) as run:
        code = run_tests(Case(run))
    sys.exit(code)
