"""A small run that goes on for as long as a test looks at it: Redis, both servers, one worker, on sockets of their own.

    with LiveRun() as live:
        live.redis.hget("decant:live", "version")
        live.get("parameter", "/metrics")
"""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import redis

BUILD = os.environ.get("BUILD", "build")
PATIENCE = 30.0  # seconds before a wait counts as failed; nothing passes or fails by being fast


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            value = condition()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError("waited in vain for " + what)


class LiveRun:
    SETTINGS = {"run.epochs": 15625, "run.slots": 4, "run.slot_size": 16, "run.log_every": 5, "run.checkpoint_every": 20,
                "data.limit": 4096, "mixture.components": 64, "mixture.dimensions": 16, "loss.block": 64, "head.hidden": 64,
                "encoder.widths": "8,16,32,64", "redis.enabled": "true", "redis.interval": 0.1,
                "metrics.parameter": "127.0.0.1:0", "metrics.prototype": "localhost:0"}

    def __init__(self, name="live", **settings):
        self.name = name
        self.directory = tempfile.mkdtemp(prefix="decant-live-")
        self.socket = os.path.join(self.directory, "redis.sock")
        self.heartbeat = os.path.join(self.directory, "alive")
        self.redis = redis.Redis(unix_socket_path=self.socket)
        self.processes = {}
        ends = {f"net.{n}": f"ipc://{self.directory}/{n}" for n in
                ("parameter", "parameter_publish", "prototype", "prototype_publish")}
        self.settings = {**self.SETTINGS, **ends, "run.name": name, "run.out": os.path.join(self.directory, "out"),
                         "redis.host": self.socket, "worker.heartbeat": self.heartbeat, **settings}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("DECANT_")}

    def arguments(self):
        return [a for k, v in self.settings.items() for a in ("--set", f"{k}={v}")]

    def log(self, process):
        return os.path.join(self.directory, process + ".log")

    def start(self, process):
        with open(self.log(process), "a", encoding="utf-8") as log:
            self.processes[process] = subprocess.Popen([f"{BUILD}/bin/decant-{process}", *self.arguments()], stderr=log,
                                                       env=self.environment)

    def health(self, process, **settings):
        """The health subcommand: (exit code, output)."""
        extra = [a for k, v in settings.items() for a in ("--set", f"{k.replace('__', '.')}={v}")]
        done = subprocess.run([f"{BUILD}/bin/decant-{process}", "health", *self.arguments(), *extra], capture_output=True,
                              text=True, env=self.environment, timeout=PATIENCE)
        return done.returncode, done.stdout + done.stderr

    def stop(self, process, how=signal.SIGTERM):
        self.processes[process].send_signal(how)
        return self.processes[process].wait(timeout=PATIENCE)

    def port(self, process):
        def find():
            with open(self.log(process), encoding="utf-8") as log:
                found = [w for line in log if "event=metrics " in line for w in line.split() if w.startswith("port=")]
            return found and int(found[-1].split("=")[1])
        return wait_for(f"the port of {process}", find)

    def get(self, process, path, method="GET"):
        """(status, headers, body)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port(process)}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def step(self):
        return int(self.redis.hget(f"decant:{self.name}", "version") or 0)

    def __enter__(self):
        self.processes["redis"] = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir",
             self.directory, "--logfile", self.log("redis")])
        try:
            wait_for("redis-server", self.redis.ping)
            for process in ("prototype", "parameter", "worker"):
                self.start(process)
            wait_for("some steps in the mirror", lambda: self.step() >= 25)
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, kind, *_):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        if kind is not None:
            for process in ("prototype", "parameter", "worker"):
                with contextlib.suppress(OSError), open(self.log(process), encoding="utf-8") as log:
                    print(f"--- {process}\n{log.read()[-2000:]}")
        shutil.rmtree(self.directory)


def run_tests(case):
    """Runs the methods test_* of case in their order; prints a line for each and the closing line. The exit code."""
    passed = failed = skipped = 0
    for name in [n for n in type(case).__dict__ if n.startswith("test_")]:
        try:
            why = getattr(case, name)()
            if why:
                skipped += 1
                print("skip ", name, why, flush=True)
            else:
                passed += 1
                print("ok   ", name, flush=True)
        except Exception as error:  # the next tests still tell something
            failed += 1
            print("FAIL ", name, repr(error), flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped" if skipped else f"{passed} passed, {failed} failed")
    return 1 if failed else 0
