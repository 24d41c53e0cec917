#!/usr/bin/env python3
"""The dashboard beside a live run: over plain HTTP and server-sent events, then, where Chromium is installed, in a browser.
Ends with "N passed, M failed", and ", K skipped" without a browser."""
import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

from PIL import Image

import browser
from live_run import BUILD, LiveRun, run_tests, wait_for
from strange_redis import StrangeRedis


class Dashboard:
    """decant dashboard on a port of its own."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([f"{BUILD}/bin/decant", "dashboard", "--listen", "127.0.0.1:0", "--interval", "0.2", *arguments],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.fullmatch(r"dashboard: (http://127\.0\.0\.1:\d+/)\n", line).group(1)
        self.port = int(self.url.split(":")[2].rstrip("/"))

    def data(self):
        with urllib.request.urlopen(self.url + "data.json", timeout=10) as answer:
            return json.load(answer)

    def state(self, run="a"):
        return self.data().get("state-" + run)

    def status(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def events(self):
        """(name, object) of each event, for ever."""
        with urllib.request.urlopen(self.url + "events", timeout=30) as answer:
            name = None
            for raw in answer:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    yield name, json.loads(line[6:])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.stdout.close()
        return self.process.wait(timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Case:
    def __init__(self, live, dashboard):
        self.live, self.dashboard = live, dashboard
        self.out = live.settings["run.out"]

    def test_figures_are_those_of_the_run(self):
        state = wait_for("a live state", lambda: (lambda s: s if s and s["source"] == "redis" and s["figures"]["loss"] else None)(self.dashboard.state()))
        mirror = {k.decode(): v.decode() for k, v in self.live.redis.hgetall("decant:live").items()}
        assert state["run"] == "live" and not state["joint"] and not state["lost"], state
        assert state["figures"]["K"] == 64 == int(mirror["K"]) and state["figures"]["D"] == 16
        assert 25 <= state["figures"]["step"] <= 1000000 == state["figures"]["total"]
        assert [s["name"] for s in state["servers"]] == ["parameter", "prototype"] and all(s["generation"] == 1 for s in state["servers"])
        worker, = wait_for("the worker", lambda: self.dashboard.state()["workers"])
        assert re.fullmatch(r".+:\d+", worker["host"]) and worker["state"] in ("working", "behind")
        wait_for("a checkpoint", lambda: self.dashboard.state()["checkpoint"])

    def test_history_is_that_of_the_files(self):
        data = self.dashboard.data()
        table = data["history-a"]["parameter"]
        assert all(len(c) == len(table["step"]) for c in table.values()) and len(table["step"]) >= 2
        with open(os.path.join(self.out, "metrics-parameter.jsonl"), encoding="utf-8") as f:
            lines = {r["step"]: r for r in map(json.loads, f.read().splitlines()[:3])}
        for step, line in lines.items():
            assert abs(table["loss"][table["step"].index(step)] - line["loss"]) < 1e-4 * line["loss"]

    def test_ring_is_that_of_the_prototypes(self):
        shape = wait_for("prototypes", lambda: (lambda s: s if s and s["K"] else None)(self.dashboard.data().get("shape-a")))
        assert len(shape["dots"]) == 64 and len(shape["density"]) == 72 and abs(sum(shape["density"]) - 72) < 0.1
        assert max(x * x + y * y for _, x, y, *_ in shape["dots"]) < 1.0001 and sum(shape["usage"]) == 64
        assert abs(sum(d[3] for d in shape["dots"]) - 64) < 0.01  # usage, in even shares
        a, b, cosine, *_ = shape["pairs"][0]
        assert shape["dots"][a][4] == b or shape["dots"][b][4] == a
        assert abs(shape["dots"][a][5] - cosine) < 1e-4 and cosine == max(p[2] for p in shape["pairs"])

    def test_events_follow_the_run(self):
        steps, topics = [], set()
        for name, value in self.dashboard.events():
            topics.add(name)
            if name == "state-a":
                steps.append(value["figures"]["step"])
            if len(set(steps)) > 3 and topics == {"state-a", "history-a", "shape-a"}:
                break
        assert steps == sorted(steps), steps

    def test_only_its_own_page_and_only_to_read(self):
        assert self.dashboard.status("/")[0] == 200
        assert self.dashboard.status("/", Host="evil.example")[0] == 421
        assert self.dashboard.status("/events", Origin="http://evil.example")[0] == 403
        assert self.dashboard.status("/data.json", "POST")[0] == 405 and self.dashboard.status("/", "PUT")[0] == 405
        for path in ("/../config.ini", "/%2e%2e/%2e%2e/etc/passwd", "/config.ini", "/checkpoints/latest"):
            assert self.dashboard.status(path)[0] == 404

    def test_images_nearest_to_a_prototype(self):
        """The picture is that of `decant prototypes --sheet` of the newest checkpoint: made when asked for."""
        wait_for("a checkpoint", lambda: os.path.exists(os.path.join(self.out, "checkpoints/latest")))
        status, png = wait_for("the picture", lambda: (lambda a: a if a[0] != 202 else None)(self.dashboard.status("/nearest/a/3.png")))
        image = Image.open(io.BytesIO(png))
        assert status == 200 and image.format == "PNG" and image.width > 9 * 28 and len(set(image.convert("L").getdata())) > 20, status
        assert self.dashboard.status("/nearest/a/3.png", Host="evil.example")[0] == 421
        assert self.dashboard.status("/nearest/a/3.png", Origin="http://evil.example")[0] == 403
        for path in ("a/64.png", "b/3.png", "a/03.png", "a/-1.png", "a/3.png.png", "a/3", "`/3.png", "a/99999999999999999999.png"):
            assert self.dashboard.status("/nearest/" + path)[0] == 404, path
        with tempfile.TemporaryDirectory() as nowhere, Dashboard("--out", nowhere) as other:
            status, text = wait_for("why not", lambda: (lambda a: a if a[0] != 202 else None)(other.status("/nearest/a/0.png")))
            assert status == 503 and b"checkpoint" in text, text
            assert other.stop() == 0

    def test_from_the_mirror_alone(self):
        """On another machine there are no files: curves come from the mirror's stream."""
        nowhere = os.path.join(self.live.directory, "nowhere")
        with Dashboard("--run", "live", "--redis", self.live.socket, "--out", nowhere) as far:
            wait_for("the stream", lambda: "history-a" in far.data() and len(far.data()["history-a"]["prototype"]["step"]) >= 3)
            table = far.data()["history-a"]["prototype"]
            entries = [e for _, e in self.live.redis.xrange("decant:live:metrics", count=40)]
            told = {int(e[b"step"]): float(e[b"unique_01"]) for e in entries if b"unique_01" in e}
            step = next(s for s, v in zip(table["step"], table["unique_01"]) if v is not None and s in told)
            assert abs(table["unique_01"][table["step"].index(step)] - told[step]) < 1e-3
            newest = table["step"][-1]
            wait_for("later entries", lambda: far.data()["history-a"]["prototype"]["step"][-1] > newest)
            self.live.redis.xadd("decant:live:evaluation", {"step": 40, "time": 1.5, "knn": 61.25, "knn_projections": 50, "best_step": 40, "best": 61.25})
            wait_for("k-NN", lambda: far.data()["history-a"]["evaluation"]["knn"] == [61.25])
            assert far.data()["history-a"]["evaluation"]["step"] == [40]
            self.live.redis.delete("decant:live:evaluation")
            assert far.state()["figures"]["loss"] is None and far.data()["shape-a"]["K"] == 64
            assert far.stop() == 0

    def test_beside_what_is_no_redis(self):
        """The page is served while the watcher waits in vain, and says what is wrong."""
        for part in ("is silent", "speaks http", "answers with an array"):
            path = os.path.join(self.live.directory, "strange")
            with StrangeRedis(path, part), Dashboard("--run", "x", "--redis", path, "--out", path + "-out") as other:
                assert other.status("/")[0] == 200
                state = wait_for("a look", other.state)
                assert state["source"] == "nothing" and "--redis names does not answer" in state["words"][0]["text"], (part, state)
                assert other.stop() == 0
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)

    def test_plots(self):
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run([f"{BUILD}/bin/decant", "plot", "--checkpoint", self.out, "--out", out], capture_output=True, text=True,
                                  check=True, timeout=60)
            names = {f"{n}.{e}" for n in ("ring", "unique", "loss", "perplexity", "usage") for e in ("svg", "png")}
            assert set(os.listdir(out)) == names and done.stdout.count("\n") == len(names)
            with open(os.path.join(out, "ring.svg"), encoding="ascii") as f:
                assert f.read().count("<circle") >= 64

    def test_in_a_browser(self):
        why = browser.missing()
        if why:
            return why
        with browser.Browser() as page:
            self.page_shows_the_run(page)
            self.page_can_be_read_without_seeing(page)
            self.page_fits_a_phone(page)
            self.page_survives_a_lost_redis(page)
            assert page.complaints() == [], page.complaints()
        return None

    def page_shows_the_run(self, page):
        page.open(self.dashboard.url)
        wait_for("the title", lambda: page.text("#title") == "live")
        step = wait_for("a step", lambda: int((page.text("#tiles dd") or "0").split(" of")[0].replace("\u202f", "") or 0))
        wait_for("a later step", lambda: int(page.text("#tiles dd").split(" of")[0].replace("\u202f", "")) > step)
        assert page.text("#badge-a").startswith("live: Redis at ")
        wait_for("the ring", lambda: page.run("return document.querySelectorAll('.ring .dot').length") == 64)
        wait_for("curves", lambda: page.run("return document.querySelectorAll('#unique .curve, #loss .curve').length") == 9)
        assert "ln 64 = 4.16" in page.text("#loss") and page.run("return document.querySelectorAll('#pairs tbody tr').length") > 5
        wait_for("the worker", lambda: page.run("return document.querySelectorAll('#workers tbody tr').length") == 1)
        assert page.run("return document.querySelectorAll('#words li').length") >= 1
        shape = self.dashboard.data()["shape-a"]
        assert page.run("return runs.a.shape.dots.length") == len(shape["dots"])

    def page_can_be_read_without_seeing(self, page):
        unnamed = page.run("""return [...document.querySelectorAll('section, svg, [tabindex="0"]')].filter((e) =>
            !(e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ').map((i) => document.getElementById(i)?.textContent).join(''))).map((e) => e.outerHTML.slice(0, 80))""")
        assert unnamed == [], unnamed
        assert page.run("return ['header', 'main', 'footer'].every((n) => document.querySelector(n)) && document.documentElement.lang === 'en'")
        press = "arguments[0].split(',').forEach((k) => document.querySelector(arguments[1]).dispatchEvent(new KeyboardEvent('keydown', {key: k, bubbles: true})))"
        page.run(press, "ArrowRight", ".ring")
        wait_for("a prototype in words", lambda: re.match(r"prototype \d+, .* even shares of use; nearest is \d+ at cosine", page.text("#rings .said")))
        page.run(press, "Home,ArrowRight", "#loss svg")
        assert re.match(r"step \d+: loss [\d.]+, consistency", page.text("#loss p.unseen")), page.text("#loss p.unseen")
        page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.run("document.querySelector('#pairs .pick').focus(); document.activeElement.click()")
        picture = "const i = document.querySelector('#rings .pictures img'); return i && i.naturalWidth ? i.alt : ''"
        said = wait_for("the images of a prototype of the table", lambda: page.run(picture))
        assert re.match(r"The training images nearest to prototype \d+,", said), said
        assert page.run("const b = document.querySelector('#pairs .pick'); b.focus(); renderPairs(); return b !== document.activeElement && b.dataset.pick === document.activeElement.dataset.pick"), "the focus stays"
        page.run("document.querySelector('#rings .pictures').replaceChildren()")
        page.run("const s = document.querySelector('.ring'), b = s.getBoundingClientRect(); s.dispatchEvent(new MouseEvent('click', {clientX: b.x + b.width / 2, clientY: b.y + b.height / 3, bubbles: true}))")
        assert re.match(r"The training images nearest", wait_for("those of one that was clicked", lambda: page.run(picture)))
        page.run("document.querySelector('#rings .pictures').replaceChildren()")
        page.run(press, "ArrowRight,Enter", ".ring")
        wait_for("those of one that the keyboard chose", lambda: page.run(picture))
        wait_for("tables beside the plots", lambda: page.run("return document.querySelectorAll('#unique tbody tr, #rings tbody tr').length") > 72)

    def page_fits_a_phone(self, page):
        for scheme in ("light", "dark"):
            page.look(360, 740, scheme)
            assert page.run("return document.documentElement.scrollWidth") <= 360
        colours = page.run("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
        ink, paper = (sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours)
        assert ink > 600 and paper < 120, colours
        page.look(1280, 900)

    def page_survives_a_lost_redis(self, page):
        self.live.stop("redis", signal.SIGKILL)
        wait_for("word of it", lambda: page.text("#badge-a").startswith("Redis lost; from files: "))
        assert "Redis no longer answers" in page.text("#words")
        step = int(page.text("#tiles dd").split(" of")[0].replace("\u202f", ""))
        wait_for("steps from the files", lambda: int(page.text("#tiles dd").split(" of")[0].replace("\u202f", "")) > step)
        assert page.run("return document.querySelectorAll('.ring .dot').length") == 64

    def test_without_redis(self):
        if self.live.processes["redis"].poll() is None:
            self.live.stop("redis", signal.SIGKILL)
        state = wait_for("word of it", lambda: (lambda s: s if s["lost"] else None)(self.dashboard.state()))
        assert state["source"] == "files" and state["workers"] == [] and state["figures"]["unique_01"] is not None
        step = state["figures"]["step"]
        wait_for("steps from the files", lambda: self.dashboard.state()["figures"]["step"] > step)
        self.live.processes["redis"] = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.live.socket, "--save", "", "--dir",
                                                         self.live.directory, "--logfile", self.live.log("redis")])
        state = wait_for("Redis again", lambda: (lambda s: s if s["source"] == "redis" and s["workers"] else None)(self.dashboard.state()))
        assert not state["lost"] and [e["source"] for e in state["events"] if "no answer any more" in e["text"]] == ["mirror"]
        assert self.dashboard.stop() == 0

    def test_two_runs_one_not_begun(self):
        later = os.path.join(self.live.directory, "later")
        with Dashboard("--out", self.out, "--compare", later) as two:
            wait_for("both", lambda: two.state("b") and two.state("a")["figures"]["unique_01"])
            assert two.state("b")["source"] == "nothing" and "has not begun" in two.state("b")["words"][0]["text"]
            os.makedirs(later)
            unique = 12.5 if two.state("a")["figures"]["unique_01"] > 25 else 45.5  # far from the other's
            hostile = '<img src=x onerror="document.title=1">'
            with open(os.path.join(later, "metrics-prototype.jsonl"), "w", encoding="utf-8") as f:
                f.write('{"step": 5, "unique_01": %s}\n{"step": "' % unique + hostile.replace('"', "'") + '"}\nnot JSON\n')
            os.makedirs(os.path.join(later, "logs"))
            with open(os.path.join(later, "logs/prototype.log"), "w", encoding="utf-8") as f:
                f.write(f"2026-01-01T00:00:00.000Z warn prototype event=refused why={hostile}\n")
            wait_for("its beginning", lambda: two.state("b")["figures"]["unique_01"] == unique)
            assert [w["level"] for w in two.state("b")["words"]][0] == "bad"
            assert "keeps" in two.state("a")["compare"][0]["text"]
            if browser.missing():
                return None
            with browser.Browser() as page:
                page.open(two.url)
                wait_for("the event", lambda: hostile in (page.text("#events") or ""))
                assert page.run("return document.querySelectorAll('#events img').length") == 0
                assert page.run("return document.querySelectorAll('#rings .ring').length") == 2
                assert page.run("return document.querySelectorAll('#unique .curve.a').length") == 5
                assert page.complaints() == []
        return None


if __name__ == "__main__":
    with LiveRun(**{"eval.images": 300}) as run, contextlib.ExitStack() as stack:
        code = run_tests(Case(run, stack.enter_context(Dashboard("--run", "live", "--out", run.settings["run.out"], "--redis", run.socket))))
    sys.exit(code)
