#!/usr/bin/env python3
"""What a monitoring system sees of a live run: /metrics and /healthz of both servers, the health subcommands, and that every
metric that the documentation, the alerts and the dashboard name is there. Ends with "N passed, M failed"."""
import glob
import json
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import zmq

from live_run import LiveRun, run_tests, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
OBSERVABILITY = os.path.join(ROOT, "deploy/observability")
NAME = r"\b(?:decant|process)_[a-z_]+\b"
SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="[^"\\]*",?)+)\})? (NaN|[+-]Inf|[-+0-9.e]+)$')


def parse(text):
    """{family: type}, {(sample, labels): value}; asserts the format on the way."""
    types, samples, helped = {}, {}, set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split(" ", 3)[2])
            assert line.split(" ", 3)[3].strip(), line
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and name in helped and kind in ("counter", "gauge", "histogram"), line
            types[name], current = kind, name
        else:
            name, labels, value = SAMPLE.match(line).groups()
            assert name == current or (kind == "histogram" and re.fullmatch(current + "_(bucket|sum|count)", name)), line
            key = (name, frozenset(re.findall(r'([a-z_]+)="([^"]*)"', labels or "")))
            assert key not in samples, line
            samples[key] = float(value)
    return types, samples


class Case:
    def __init__(self, live):
        self.live = live

    def scrape(self, server):
        status, headers, body = self.live.get(server, "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), headers
        return parse(body)

    def value(self, server, name, **labels):
        return self.scrape(server)[1][(name, frozenset(labels.items()))]

    def health(self, server):
        status, headers, body = self.live.get(server, "/healthz")
        assert headers["Content-Type"] == "application/json" and body.count("\n") == 1, body
        return status, json.loads(body)

    def names(self):
        return set(self.scrape("parameter")[0]) | set(self.scrape("prototype")[0])

    def test_format_and_conventions(self):
        for server in ("parameter", "prototype"):
            types, samples = self.scrape(server)
            assert len(types) > 25
            for name, kind in types.items():
                assert name.endswith("_total") == (kind == "counter"), (name, kind)
            for le in ("0.01", "+Inf"):
                assert ("decant_step_seconds_bucket", frozenset({("le", le)})) in samples
            assert samples[("decant_step_seconds_count", frozenset())] <= samples[("decant_steps_total", frozenset())]

    def test_figures_make_sense(self):
        wait_for("a report", lambda: "decant_loss" in self.scrape("parameter")[0])
        one, two = self.scrape("parameter")[1], self.scrape("prototype")[1]
        plain = frozenset()
        for samples in (one, two):
            assert samples[("decant_steps_total", plain)] >= 25 and samples[("decant_workers", plain)] == 1
            assert samples[("decant_contributions_total", frozenset({("result", "applied")}))] > 0
            assert samples[("decant_messages_total", frozenset({("socket", "requests"), ("direction", "in")}))] > 0
            assert samples[("decant_bytes_total", frozenset({("socket", "publications"), ("direction", "out")}))] > 0
            assert samples[("decant_checkpoint_step", plain)] >= 20 and samples[("decant_steps_planned", plain)] == 1000000
            assert 10e6 < samples[("process_resident_memory_bytes", plain)] < 2e9
            assert abs(samples[("process_start_time_seconds", plain)] - time.time()) < 600
        applied = one[("decant_images_total", plain)]
        assert applied >= 25 * 4 * 16 and applied % 16 == 0
        assert 0 < two[("decant_prototypes_unique_ratio", frozenset({("eps", "0.025")}))] <= 1
        assert 1 <= two[("decant_usage_perplexity", plain)] <= 64 + 1e-6
        assert two[("decant_mirror_connected", plain)] == 1 and two[("decant_mirror_age_seconds", plain)] < 60
        shares = [v for (name, _), v in one.items() if name == "decant_worker_time_ratio"]
        assert abs(sum(shares) - 1) < 1e-3, shares

    def test_counters_count(self):
        before = self.value("parameter", "decant_steps_total")
        wait_for("a step", lambda: self.value("parameter", "decant_steps_total") > before)
        for server in ("parameter", "prototype"):
            dealer = zmq.Context.instance().socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(self.live.settings[f"net.{server}"])
            dealer.send(b"not a message")
            assert dealer.poll(20000)
            dealer.close()
            assert self.value(server, "decant_refused_total", reason="bad_header") == 1

    def test_only_get_of_two_paths(self):
        for server in ("parameter", "prototype"):
            assert self.live.get(server, "/")[0] == 404 and self.live.get(server, "/metrics/x")[0] == 404
            assert self.live.get(server, "/metrics", "POST")[0] == 405
            status, headers, body = self.live.get(server, "/metrics", "HEAD")
            assert status == 200 and body == "" and int(headers["Content-Length"]) > 1000

    def test_idle_connections_hold_up_nothing(self):
        idle = [socket.create_connection(("127.0.0.1", self.live.port("parameter"))) for _ in range(40)]
        idle[0].send(b"GET /metrics HTTP/1.1\r\nX: ")
        step = self.live.step()
        wait_for("steps meanwhile", lambda: self.live.step() > step + 5)
        for s in idle:
            s.close()
        wait_for("an answer again", lambda: self.health("parameter")[0] == 200)

    def served_beside_half_sent_requests(self):
        """One address sends what it can and never ends a request; another is served while those are still held."""
        held = [socket.create_connection(("127.0.0.1", self.live.port("parameter")), source_address=("127.0.0.2", 0)) for _ in range(80)]
        for s in held:
            with contextlib.suppress(OSError):  # closed: over the limit of its address
                s.send(b"GET /metrics HTTP/1.1\r\nX: ")
        answered = self.health("parameter")[0] == 200
        waiting = 0
        for s in held:
            s.setblocking(False)
            try:
                s.recv(1)
            except BlockingIOError:
                waiting += 1
            except OSError:
                pass
            s.close()
        return answered and waiting >= 40

    def test_half_sent_requests_leave_room(self):
        wait_for("an answer beside them", self.served_beside_half_sent_requests)

    def test_well(self):
        for server in ("parameter", "prototype"):
            status, answer = self.health(server)
            assert status == 200 and answer["status"] == "ok" and answer["run"] == "live" and answer["step"] >= 25, answer
            assert "reason" not in answer
            code, line = self.live.health(server)
            assert code == 0 and re.fullmatch(r"ok run=live generation=1 step=\d+\n", line), line
        alive = r"ok worker=[0-9a-f]{16} parameter=up prototype=up step=[1-9]\d* slots_done=[1-9]\d*\n"  # a second after the start
        wait_for("the worker's heartbeat", lambda: re.fullmatch(alive, self.live.health("worker")[1]))
        assert self.live.health("worker")[0] == 0

    def test_unwell(self):
        code, line = self.live.health("parameter", run__name="another")
        assert code == 1 and "serves run live, not another" in line
        code, line = self.live.health("prototype", net__prototype=f"ipc://{self.live.directory}/nobody")
        assert code == 1 and line.count("\n") == 1 and "no answer" in line
        code, line = self.live.health("worker", worker__heartbeat=f"{self.live.directory}/nobody")
        assert code == 1 and "does a worker run here?" in line
        old = os.path.join(self.live.directory, "old")
        shutil.copy(self.live.heartbeat, old)
        os.utime(old, (time.time() - 60, time.time() - 60))
        code, line = self.live.health("worker", worker__heartbeat=old)
        assert code == 1 and "gone or stuck; it said worker=" in line
        assert self.live.health("worker", no__key="1")[0] == 2

    def test_a_failing_checkpoint_shows(self):
        directory = os.path.join(self.live.settings["run.out"], "checkpoints")
        os.rename(directory, directory + ".away")
        open(directory, "w", encoding="utf-8").close()
        try:
            for server in ("parameter", "prototype"):
                status, answer = wait_for("a failure", lambda s=server: (lambda h: h if h[0] == 503 else None)(self.health(s)))
                assert answer["status"] == "failing" and "checkpoint of step" in answer["reason"], answer
                assert self.value(server, "decant_checkpoint_failures_total") >= 1
        finally:
            os.remove(directory)
            os.rename(directory + ".away", directory)
        for server in ("parameter", "prototype"):
            wait_for("health again", lambda s=server: self.health(s)[0] == 200)

    def test_documented_both_ways(self):
        with open(os.path.join(ROOT, "docs/OPERATIONS.md"), encoding="utf-8") as f:
            rows = re.findall(r"^\| `(" + NAME + r")` \| (counter|gauge|histogram) \| (both|parameter|prototype) \|", f.read(), re.M)
        documented = {s: {n: k for n, k, where in rows if where in ("both", s)} for s in ("parameter", "prototype")}
        for server in ("parameter", "prototype"):
            types = self.scrape(server)[0]
            assert documented[server] == types, set(documented[server].items()) ^ set(types.items())

    def test_rules_name_what_exists(self):
        with open(os.path.join(OBSERVABILITY, "rules.yml"), encoding="utf-8") as f:
            rules = f.read()
        named = set(re.findall(NAME, rules))
        assert len(named) > 8 and named <= self.names(), named - self.names()
        with open(os.path.join(ROOT, "docs/OPERATIONS.md"), encoding="utf-8") as f:
            documented = re.findall(r"^\| `(Decant\w+)` \|", f.read(), re.M)
        assert documented == re.findall(r"alert: (\w+)", rules)

    def test_dashboard_names_what_exists(self):
        boards = glob.glob(os.path.join(OBSERVABILITY, "grafana/dashboards/*.json"))
        assert boards
        for path in boards:
            with open(path, encoding="utf-8") as f:
                board = json.load(f)
            expressions = [t["expr"] for p in board["panels"] for t in p["targets"]]
            named = {re.sub(r"_(bucket|sum|count)$", "", n) for e in expressions for n in re.findall(NAME, e)}
            assert len(named) > 20 and named <= self.names(), named - self.names()
            assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
            assert all(re.search(NAME, e) for e in expressions)

    def test_promtool(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            return "promtool is not installed (Debian package prometheus): rules, configuration and format not checked by it"
        for server in ("parameter", "prototype"):
            subprocess.run([promtool, "check", "metrics"], input=self.live.get(server, "/metrics")[2], text=True, check=True,
                           capture_output=True)
        subprocess.run([promtool, "check", "config", os.path.join(OBSERVABILITY, "prometheus.yml")], check=True, capture_output=True)
        with open(os.path.join(ROOT, "tests/py/rules_test.yml"), encoding="utf-8") as f:
            tests = f.read().replace("RULES", os.path.abspath(os.path.join(OBSERVABILITY, "rules.yml")))
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as f:
            f.write(tests)
            f.flush()
            done = subprocess.run([promtool, "test", "rules", f.name], text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        return None

    def test_worker_that_dies(self):
        self.live.stop("worker", signal.SIGKILL)
        wait_for("the loss", lambda: self.value("parameter", "decant_workers_lost_total") == 1)
        assert self.value("parameter", "decant_workers") == 0
        assert self.health("parameter")[0] == 200  # it waits for workers, and is well

    def test_worker_that_leaves_takes_its_heartbeat_along(self):
        with contextlib.suppress(FileNotFoundError):  # of the one that was killed: it would speak for the new one
            os.unlink(self.live.heartbeat)
        self.live.start("worker")
        wait_for("its heartbeat", lambda: self.live.health("worker")[0] == 0)
        assert self.live.stop("worker") == 0
        assert not os.path.exists(self.live.heartbeat)


if __name__ == "__main__":
    with LiveRun() as run:
        code = run_tests(Case(run))
    sys.exit(code)
