#!/usr/bin/env python3
"""What is mistaken for a Redis, or is one that is not fit, neither ends, nor slows, nor changes a run, and nobody waits for it
without end: the servers' memory, log and time, and those of the commands that read from Redis, are bounded.

Ends with "N passed, M failed"."""
import concurrent.futures
import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import redis

from strange_redis import PARTS, STRANGERS, StrangeRedis
from test_redis import BUILD, PATIENCE, RUN, Client, Redis, Server, run_cases, wait_for

STEPS = 12
MEMORY_KB = 48 << 10  # over a run without Redis: buffers, the allocator's moods, and no more
TOGETHER = 10         # cases at a time: each waits for some ten seconds and computes for a third of one
LOG_LINES = 40        # about Redis, in a run of some seconds
DEADLINE = 120        # of a command; all end after some 3 s, and this is only there so that a hang fails


def peak_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


class Case:
    def __init__(self, directory):
        self.directory = directory
        self.numbers = itertools.count(1)
        self.bytes, self.peak = self.reference()

    def fresh(self, name):
        path = os.path.join(self.directory, f"{next(self.numbers)}-{name.replace(' ', '-')}")
        os.mkdir(path)
        return path

    def digest(self, server):
        with open(f"{server.out}/checkpoints/step-{STEPS:06d}/mixture.safetensors", "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    def reference(self):
        server = Server(self.fresh("reference"), "", redis__host="127.0.0.1", redis__enabled="false")
        Client(server.endpoint).run_steps(STEPS)
        peak = peak_kb(server.process.pid)
        assert server.stop() == 0
        return self.digest(server), peak

    # ---- the server ----

    def survives(self, part):
        """The same steps, the same bytes, exit 0, little memory and few lines, beside any stranger."""
        directory = self.fresh(part)
        with StrangeRedis(f"{directory}/s", part) as strange:
            server = Server(directory, f"{directory}/s")
            client = Client(server.endpoint)
            client.run_steps(STEPS)
            wait_for("trouble", lambda: server.lines("event=redis_lost") or server.lines("event=redis_refused"))
            wait_for("another try", lambda: strange.connections >= 2 or len(server.lines("event=redis_refused")) >= 2)
            peak = peak_kb(server.process.pid)
            assert server.stop() == 0
        lines = server.lines("event=redis_")
        assert self.digest(server) == self.bytes
        assert peak < self.peak + MEMORY_KB, f"{peak} kB, {self.peak} without Redis"
        assert len(lines) < LOG_LINES, lines
        bad = [line for line in lines if " warn " in line and " count=" not in line]
        assert not bad, bad
        assert not any("\x1b" in line or line.count('"') % 2 for line in lines), lines

    # ---- commands ----

    def commands_end(self, part):
        directory = self.fresh(part)
        with StrangeRedis(f"{directory}/s", part):
            lines = [["status", "--redis", f"{directory}/s"], ["prototypes", "--redis", f"{directory}/s"],
                     ["top", "--once", "--redis", f"{directory}/s"],
                     ["doctor", "--set", "redis.enabled=true", "--set", f"redis.host={directory}/s"]]
            running = [subprocess.Popen([f"{BUILD}/bin/decant", *line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        cwd=directory, text=True) for line in lines]
            for line, process in zip(lines, running):
                try:
                    said, _ = process.communicate(timeout=DEADLINE)
                finally:
                    process.kill()
                assert process.returncode == 1, (line, process.returncode, said)
                assert "Redis" in said and "temporarily unavailable" not in said, (line, said)

    def test_a_timeout_says_so(self):
        directory = self.fresh("timeout")
        with StrangeRedis(f"{directory}/s", "is silent"):
            done = subprocess.run([f"{BUILD}/bin/decant", "status", "--redis", f"{directory}/s"], capture_output=True, text=True,
                                  timeout=DEADLINE, check=False)
        assert done.returncode == 1 and "no whole answer within 3 s" in done.stderr, done

    # ---- a whole run ----

    def train(self, directory, *arguments):
        small = {"mixture.components": 64, "mixture.dimensions": 16, "loss.block": 64, "head.hidden": 32, "data.limit": 512,
                 "run.slots": 2, "run.slot_size": 8, "encoder.widths": "8,16", "run.steps": 40, "run.log_every": 1}
        sets = [a for k, v in small.items() for a in ("--set", f"{k}={v}")]
        done = subprocess.run([f"{BUILD}/bin/decant", "train", "--run", "strange", "--out", directory + "/run", "--no-eval",
                               "--workers", "1", *sets, *arguments], capture_output=True, text=True, timeout=DEADLINE,
                              check=False)
        assert done.returncode == 0, done.stderr
        step = directory + "/run/checkpoints/step-000040/"
        return done.stderr, [open(step + n, "rb").read() for n in ("encoder.safetensors", "mixture.safetensors")]

    def test_a_whole_run_beside_a_stranger(self):
        _, alone = self.train(self.fresh("alone"), "--no-redis")
        for part in ("greets", "answers twice"):
            directory = self.fresh(part)
            with StrangeRedis(f"{directory}/s", part):
                said, beside = self.train(directory, "--redis", f"{directory}/s", "--set", "redis.interval=0.1")
            assert beside == alone
            assert "event=redis_lost" in said and "starting it again" not in said, said

    # ---- a Redis that is not fit ----

    def unfit(self, name, words, *options):
        directory = self.fresh(name)
        real = Redis(directory, *options)
        server = Server(directory, real.socket)
        try:
            Client(server.endpoint).run_steps(STEPS)
            line = wait_for("the judgement", lambda: server.lines("event=redis_unfit"))[0]
            assert all(w in line for w in words), line
            done = subprocess.run([f"{BUILD}/bin/decant", "doctor", "--set", "redis.enabled=true", "--set",
                                   f"redis.host={real.socket}"], capture_output=True, text=True, timeout=DEADLINE, check=False)
            assert done.returncode == 1 and all(w in done.stdout for w in words), done.stdout
            assert server.stop() == 0
            assert self.digest(server) == self.bytes
            assert len(server.lines("event=redis_")) == 1, server.lines("event=redis_")
        finally:
            server.process.kill()
            real.kill()

    def test_a_cluster_is_refused(self):
        self.unfit("cluster", ["cluster", "without cluster mode"], "--cluster-enabled", "yes", "--port", "0")

    def test_a_replica_is_refused(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            self.unfit("replica", ["replica", f"127.0.0.1:{port}"], "--replicaof", f"127.0.0.1 {port}")

    def test_little_memory_is_said_and_refusals_are_counted(self):
        directory = self.fresh("memory")
        real = Redis(directory, "--maxmemory", "1mb")
        server = Server(directory, real.socket)
        try:
            client = Client(server.endpoint)
            client.run_steps(STEPS)
            wait_for("refusals", lambda: any("count=2" in line for line in server.lines("event=redis_refused kind=OOM")))
            assert len(server.lines("event=redis_tight")) == 1
            assert len(server.lines("event=redis_refused")) == 2 and "hint=" in server.lines("event=redis_refused")[0]
            real.client.config_set("maxmemory", 0)
            wait_for("the mirror", lambda: int(real.client.hget(f"decant:{RUN}", "version") or 0) == client.step)
            assert server.stop() == 0
        finally:
            server.process.kill()
            real.kill()

    # ---- clocks, and names used again ----

    def test_a_clock_that_was_set_back_locks_nobody_out(self):
        directory = self.fresh("clock")
        real = Redis(directory)
        key = f"decant:{RUN}"
        real.client.hset(key, mapping={"generation": 9, "started": "2099-01-01T00:00:00.000Z", "version": 77})
        real.client.set(key + ":live", "2099-01-01T00:00:00.000Z", px=1500)  # its server has died just now
        server = Server(directory, real.socket)
        try:
            Client(server.endpoint).run_steps(STEPS)
            wait_for("the new run's mirror", lambda: real.client.hget(key, "version") == b"%d" % STEPS)
            assert len(server.lines("event=mirror_superseded")) <= 1, server.lines("event=mirror")
            assert server.stop() == 0, "the exit code"
        finally:
            server.process.kill()
            real.kill()

    # ---- logins ----

    def test_a_url_with_a_password_and_a_database(self):
        directory = self.fresh("url")
        real = Redis(directory, "--requirepass", "s3cret@", password="s3cret@")
        server = Server(directory, "/nowhere", environment={"DECANT_REDIS_URL": f"unix://:s3cret%40@{real.socket}?db=3"})
        try:
            Client(server.endpoint).run_steps(STEPS)
            third = redis.Redis(unix_socket_path=real.socket, password="s3cret@", db=3)
            wait_for("the mirror in database 3", lambda: third.hget(f"decant:{RUN}", "version") == b"%d" % STEPS)
            assert real.client.dbsize() == 0
            done = subprocess.run([f"{BUILD}/bin/decant", "status", "--run", RUN, "--redis",
                                   f"unix://:s3cret%40@{real.socket}?db=3"], capture_output=True, text=True, timeout=DEADLINE,
                                  check=False)
            assert done.returncode == 0 and "s3cret" not in done.stdout + done.stderr, done
            with open(f"/proc/{server.process.pid}/cmdline", "rb") as f:
                assert b"s3cret" not in f.read()
            assert server.stop() == 0
            assert not server.said("s3cret")
        finally:
            server.process.kill()
            real.kill()

    def test_a_launcher_hides_the_password_of_its_command_line(self):
        directory = self.fresh("launcher")
        real = Redis(directory, "--requirepass", "s3cret", password="s3cret")
        settings = {"mixture.components": 64, "mixture.dimensions": 16, "loss.block": 64, "head.hidden": 32, "data.limit": 512,
                    "run.slots": 2, "run.slot_size": 8, "encoder.widths": "8,16", "redis.interval": 0.1}
        run = subprocess.Popen([f"{BUILD}/bin/decant", "train", "--run", "hide", "--out", directory + "/run", "--no-eval",
                                "--workers", "1", "--redis", f"unix://:s3cret@{real.socket}",
                                *[a for k, v in settings.items() for a in ("--set", f"{k}={v}")]],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_for("the mirror", lambda: int(real.client.hget("decant:hide", "version") or 0) > 0)
            with open(directory + "/run/pids", encoding="ascii") as f:
                pids = [line.split()[1] for line in f]
            assert len(pids) == 4, pids
            for pid in pids:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    assert b"s3cret" not in f.read(), pid
        finally:
            run.send_signal(signal.SIGINT)
            said = run.communicate(timeout=DEADLINE)[1]
            real.kill()
        assert b"s3cret" not in said
        for place, _, names in os.walk(directory + "/run"):
            for name in names:
                with open(os.path.join(place, name), "rb") as f:
                    assert b"s3cret" not in f.read(), name


def add_parts():
    """A test of the server for each part, and one of the commands for each stranger."""
    for part in PARTS:
        setattr(Case, "test_run_beside_one_that_" + part.replace(" ", "_"), lambda self, part=part: self.survives(part))
    for part in STRANGERS:
        setattr(Case, "test_commands_before_one_that_" + part.replace(" ", "_"), lambda self, part=part: self.commands_end(part))


def main():
    directory = tempfile.mkdtemp(prefix="decant-strange-")
    add_parts()
    failed = 1
    try:
        wanted = sys.argv[1] if len(sys.argv) > 1 else ""
        case = Case(directory)
        names = [n for n in Case.__dict__ if n.startswith("test_") and wanted in n]
        # None builds on another, and most of their time is waiting for a time-out.
        with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
            counts = list(pool.map(lambda name: run_cases(case, [name]), names))
        passed, failed = sum(p for p, _ in counts), sum(f for _, f in counts)
    finally:
        if failed and os.environ.get("KEEP"):
            print("kept:", directory)
        else:
            shutil.rmtree(directory)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
