#!/usr/bin/env python3
"""Stream mode from outside (docs/PROTOCOL.md, section 12): decant-prototype against a client written from that page.

Exactly once is shown with a count: with eta = 1 nothing is forgotten, so the mixture's mass in a checkpoint is its start plus the number of
embeddings that were applied, and a contribution that counts twice, or not, is seen. The server is killed (SIGKILL) and started again at
different moments. Ends with "N passed, M failed"."""
import contextlib
import glob
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire_client as wire
from wire_client import ACK, ERROR, GRADIENT, HELLO, MIXTURE_GET, PING, PONG, STATS, WELCOME

BUILD = os.environ.get("BUILD", "build")
PATIENCE_S = 20.0  # before a wait counts as failed; nothing passes or fails by being fast
PUBLISHED = ("mean", "variance", "weight", "log_const")  # of a mixture without full covariances
K, D, ROWS, RUN = 16, 4, 8, "stream-test"
REWIND, DURABLE = 18, 3
(BAD_HEADER, BAD_VERSION, BAD_TYPE, WRONG_DOOR, WRONG_RUN, WRONG_CONFIG, WRONG_SHARD, WRONG_GENERATION, BAD_FIELD, BAD_SHAPE,
 BAD_DTYPE, BAD_ENCODING, BAD_VALUE, NON_FINITE, OUT_OF_RANGE, TOO_LARGE, FUTURE_STEP, NOT_READY) = range(1, 19)
STOPPING, EXPIRED = 21, 23


# ---- a server that can be killed ----

class Server:
    """decant-prototype in stream mode on ipc sockets in a directory of its own."""

    def __init__(self, directory, **settings):
        self.directory = directory
        self.requests, self.publish = f"ipc://{directory}/requests", f"ipc://{directory}/publish"
        keys = {"run.name": RUN, "run.out": directory, "run.mode": "stream", "mixture.components": K, "mixture.dimensions": D,
                "mixture.forgetting": 1, "stream.version_ms": 20, "stream.checkpoint_ms": 3600000, "run.checkpoint_every": 0,
                "net.prototype": self.requests, "net.prototype_publish": self.publish,
                **{key.replace("__", "."): value for key, value in settings.items()}}
        self.arguments = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        self.process = None

    def start(self):
        resume = ["--resume"] if self.process else []
        for path in (f"{self.directory}/requests", f"{self.directory}/publish"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with open(f"{self.directory}/log", "a") as log:
            self.process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", *self.arguments, *resume], stderr=log, stdout=log)
        self.wait_until(lambda: os.path.exists(f"{self.directory}/publish"))
        return self

    def wait_until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.005)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE_S) == 0, "the server did not end in order"

    def log(self):
        with open(f"{self.directory}/log") as log:
            return log.read()

    def checkpoint(self):
        """Tensors of the newest checkpoint."""
        path = sorted(glob.glob(f"{self.directory}/checkpoints/step-*/mixture.safetensors"))[-1]
        with open(path, "rb") as file:
            size, = struct.unpack("<Q", file.read(8))
            header, data = json.loads(file.read(size)), file.read()
        return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]],
                                    {"F64": "<f8", "F32": "<f4", "U64": "<u8", "U32": "<u4", "U8": "|u1"}[t["dtype"]]).reshape(t["shape"])
                for name, t in header.items() if name != "__metadata__"}


@contextlib.contextmanager
def server(**settings):
    with tempfile.TemporaryDirectory(prefix="decant-stream-") as directory:
        it = Server(directory, **settings).start()
        try:
            yield it
            if it.process.poll() is None:
                it.stop()
        except BaseException:
            sys.stdout.write(it.log())
            raise
        finally:
            it.process.kill()
            it.process.wait()


# ---- a client, from the page ----

class StreamClient(wire.Client):
    """Says HELLO, numbers what it sends, and keeps it until it is durable."""

    def __init__(self, endpoint):
        super().__init__(endpoint)
        self.welcome = self.hello()
        self.name = self.welcome.worker
        self.kept, self.sent, self.forgotten = {}, 0, 0
        self.rng = np.random.default_rng(self.name % 1000)

    def statistics(self, rows=ROWS, **fields):
        h = self.rng.normal(size=(rows, D))
        h /= np.linalg.norm(h, axis=1, keepdims=True)
        gamma = np.zeros((rows, K))
        gamma[np.arange(rows), self.rng.integers(0, K, rows)] = 1
        return {**wire.factored(h, gamma, -1.0), "worker": self.name, **fields}

    def ask(self, kind, tensors=None, **fields):
        """The answer, whatever durable news come between."""
        self.send_frames(wire.encode(kind, tensors, **{**self.facts, **fields}))
        return self.answer()

    def answer(self):
        while True:
            message = self.receive()
            assert message is not None, "no answer"
            if message.type == ACK and message.code == DURABLE:
                self.forget(message.scalars["durable"])
            else:
                return message

    def forget(self, durable):
        self.forgotten = max(self.forgotten, int(durable))
        self.kept = {seq: message for seq, message in self.kept.items() if seq > durable}

    def contribute(self):
        """Sends the next contribution, without waiting for the answer."""
        self.sent += 1
        self.kept[self.sent] = self.statistics(seq=self.sent)
        self.send_frames(wire.encode(STATS, **self.facts, **self.kept[self.sent]))

    def contribute_and_wait(self, count=1):
        for _ in range(count):
            self.contribute()
            answer = self.answer()
            assert (answer.type, answer.code, answer.seq) == (ACK, wire.APPLIED, self.sent), answer.header
            assert answer.scalars["applied"] == self.sent
        return answer

    def return_to(self, endpoint):
        """After a restart: HELLO under the old name, then all that is kept above `applied`, which is returned."""
        self.socket.close()
        name, kept, sent, forgotten, rng = self.name, self.kept, self.sent, self.forgotten, self.rng
        wire.Client.__init__(self, endpoint)
        self.facts = {"run": RUN}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.send_frames(wire.encode(HELLO, worker=name, seq=forgotten))
            answer = self.receive(1)
            if answer is not None and answer.type == WELCOME:
                break
            assert answer is None, answer.header
            assert time.monotonic() < deadline
        self.name, self.kept, self.sent, self.forgotten, self.rng = name, kept, sent, forgotten, rng
        assert answer.worker == name
        self.forget(answer.scalars.get("durable", 0))
        applied = answer.scalars.get("applied", 0)
        for seq in sorted(self.kept):
            if seq > applied:
                answer = self.ask(STATS, **self.kept[seq])
                assert (answer.type, answer.code) == (ACK, wire.APPLIED), answer.header
        return applied

    def wait_durable(self, seq):
        deadline = time.monotonic() + PATIENCE_S
        while self.forgotten < seq:
            assert time.monotonic() < deadline, (self.forgotten, seq)
            message = self.receive(0.2) or self.ask(PING, worker=self.name)
            self.forget(message.scalars.get("durable", 0))


def embeddings_in(checkpoint):
    """Applied embeddings by the mixture's mass: it starts with 1 for each component, and eta = 1 forgets nothing."""
    total = checkpoint["mass"].sum() - K
    assert abs(total - round(total)) < 1e-6, total
    return round(total)


def expect(answer, kind, code):
    assert (answer.type, answer.code) == (kind, code), answer.header


# ---- the greeting, and names ----

def test_welcome_names_the_client_and_tells_the_limits():
    with server(stream__window=5, stream__keep=9, stream__rows_max=20) as s, contextlib.closing(StreamClient(s.requests)) as c:
        scalars = c.welcome.scalars
        assert (scalars["mode"], scalars["components"], scalars["dimensions"], scalars["rows_max"]) == (1, K, D, 20)
        assert (scalars["window"], scalars["keep"], scalars["credit"], scalars["beta"]) == (5, 9, 5, 1)
        assert "applied" not in scalars and "slots" not in scalars
        assert c.welcome.run == RUN and c.welcome.generation == 1 and c.name >> 32 == 1
        other = StreamClient(s.requests)
        assert other.name != c.name
        other.close()
        s.kill()
        s.start()
        again = StreamClient(s.requests)
        assert again.name not in (c.name, other.name) and again.name >> 32 == 2
        again.close()


# ---- applied, once ----

def test_order_and_answers():
    with server(stream__window=4) as s, contextlib.closing(StreamClient(s.requests)) as c:
        answer = c.contribute_and_wait()
        assert answer.scalars["credit"] == 5 and "durable" not in answer.scalars
        answer = c.ask(STATS, **c.statistics(seq=1))  # the tensors are not even read
        expect(answer, ACK, wire.DUPLICATE)
        expect(c.ask(STATS, worker=c.name, seq=1), ACK, wire.DUPLICATE)
        answer = c.ask(STATS, **c.statistics(seq=3))
        expect(answer, ERROR, FUTURE_STEP)
        assert answer.scalars["applied"] == 1
        expect(c.ask(STATS, **c.statistics(seq=2)), ACK, wire.APPLIED)
        pong = c.ask(PING, worker=c.name)
        assert pong.type == PONG and pong.scalars["applied"] == 2 and pong.scalars["credit"] == 6
        s.stop()
        checkpoint = s.checkpoint()
        assert embeddings_in(checkpoint) == 2 * ROWS
        assert checkpoint["ledger"].tolist() == [[0, 2, 0], [c.name, 0, 2]]


def test_versions_by_count_and_by_time():
    with server(stream__contributions=3, stream__version_ms=3600000) as s, contextlib.closing(StreamClient(s.requests)) as c:
        subscriber = wire.Subscriber(s.publish, "mixture")
        c.contribute_and_wait(2)
        assert c.snapshot().step == 0
        c.contribute_and_wait()
        assert c.snapshot().step == 1
        c.contribute_and_wait(4)
        assert c.snapshot().step == 2
        published = None
        while published is None:  # the subscription may have come late for the first ones
            c.contribute_and_wait(3)
            published = subscriber.receive(0.2)
        assert 1 <= published.step <= c.sent // 3
        subscriber.close()
        assert c.sent % 3 == 1
        s.stop()  # the last one becomes a version, too
        assert embeddings_in(s.checkpoint()) == c.sent * ROWS
    with server(stream__contributions=1000000, stream__version_ms=10) as s, contextlib.closing(StreamClient(s.requests)) as c:
        c.contribute_and_wait()
        s.wait_until(lambda: c.snapshot().step == 1)


def test_the_mixture_is_that_of_the_order_of_arrival():
    """Two servers get the same contributions in the same order, one of them with repetitions: the same bytes."""
    states = []
    for noisy in (False, True):
        with server(stream__contributions=3, stream__version_ms=3600000) as s:
            clients = [StreamClient(s.requests) for _ in range(3)]
            for step in range(4):
                for c in clients:
                    c.contribute_and_wait()
                    if noisy:
                        expect(c.ask(STATS, **c.kept[c.sent]), ACK, wire.DUPLICATE)
                        expect(c.ask(STATS, **{**c.kept[c.sent], "seq": c.sent + 2}), ERROR, FUTURE_STEP)
            mixture = clients[0].snapshot()
            states.append(b"".join(mixture.tensors[t].tobytes() for t in PUBLISHED))
            for c in clients:
                c.close()
    assert states[0] == states[1]


# ---- durable ----

def test_durable_is_said_when_it_is_on_disk():
    with server(stream__contributions=1, run__checkpoint_every=3) as s, contextlib.closing(StreamClient(s.requests)) as c:
        c.contribute_and_wait(2)
        assert c.forgotten == 0
        c.contribute_and_wait(2)
        c.wait_durable(3)
        assert s.checkpoint()["ledger"][1, 2] == 3
        assert c.ask(PING, worker=c.name).scalars["durable"] == 3
        s.stop()
        news = c.receive()  # the last checkpoint is told of before the server leaves
        assert (news.type, news.code, news.seq, news.scalars["durable"]) == (ACK, DURABLE, 4, 4), news.header


def test_checkpoints_come_by_time():
    with server(stream__checkpoint_ms=50) as s, contextlib.closing(StreamClient(s.requests)) as c:
        c.contribute_and_wait()
        c.wait_durable(1)
        assert embeddings_in(s.checkpoint()) == ROWS


def test_credit_is_back_pressure_and_no_drop():
    """With all but the last checkpoint held up by nothing but keep: half of it asks for a checkpoint, so a client never starves."""
    with server(stream__window=2, stream__keep=4) as s, contextlib.closing(StreamClient(s.requests)) as c:
        for _ in range(30):
            while True:
                pong = c.ask(PING, worker=c.name)
                if pong.scalars["credit"] > c.sent:
                    break
                time.sleep(0.002)
            c.contribute_and_wait()
        c.wait_durable(28)
        s.stop()
        assert embeddings_in(s.checkpoint()) == 30 * ROWS
    with server(stream__window=2, stream__keep=2) as s, contextlib.closing(StreamClient(s.requests)) as c:
        os.mkdir(f"{s.directory}/checkpoints")
        os.chmod(f"{s.directory}/checkpoints", 0)  # nothing becomes durable
        if os.access(f"{s.directory}/checkpoints", os.W_OK):
            os.rmdir(f"{s.directory}/checkpoints")  # root may write anywhere: a file stands in the way instead
            open(f"{s.directory}/checkpoints", "w").close()
        c.contribute_and_wait(2)
        answer = c.ask(STATS, **c.statistics(seq=3))
        expect(answer, ERROR, NOT_READY)
        assert answer.scalars["credit"] == 2 and answer.scalars["applied"] == 2
        if os.path.isdir(f"{s.directory}/checkpoints"):
            os.chmod(f"{s.directory}/checkpoints", 0o700)
        else:
            os.unlink(f"{s.directory}/checkpoints")
        c.wait_durable(2)
        c.contribute_and_wait()


# ---- killing ----

def test_a_killed_server_loses_nothing():
    """Killed before any checkpoint, then behind one, then with contributions on their way: all that was sent counts, once."""
    with server(stream__contributions=4, run__checkpoint_every=2) as s:
        a, b = StreamClient(s.requests), StreamClient(s.requests)
        a.contribute_and_wait(3)
        s.kill()
        s.start()
        assert a.return_to(s.requests) == 0
        b.return_to(s.requests)
        for _ in range(5):
            a.contribute_and_wait()
            b.contribute_and_wait()
        a.wait_durable(4)
        b.contribute_and_wait()
        for _ in range(3):
            a.contribute()
        s.kill()
        s.start()
        applied = a.return_to(s.requests)
        assert 4 <= applied <= 8
        b.return_to(s.requests)
        expect(a.ask(STATS, **a.statistics(seq=1)), ACK, wire.DUPLICATE)
        a.contribute_and_wait()
        s.stop()
        assert embeddings_in(s.checkpoint()) == (a.sent + b.sent) * ROWS
        ledger = {int(row[0]): int(row[2]) for row in s.checkpoint()["ledger"][1:]}
        assert ledger == {a.name: a.sent, b.name: b.sent} == {a.name: 12, b.name: 6}
        a.close()
        b.close()


def test_a_checkpoint_that_is_gone_is_a_loss_that_is_counted():
    with server(stream__contributions=1, run__checkpoint_every=1) as s, contextlib.closing(StreamClient(s.requests)) as c:
        for _ in range(3):
            c.contribute_and_wait()
            c.wait_durable(c.sent)
        s.kill()
        newest = sorted(glob.glob(f"{s.directory}/checkpoints/step-*/mixture.safetensors"))[-1]
        with open(newest, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        s.start()
        assert c.return_to(s.requests) == 3  # the server goes on after what the client does not keep
        c.contribute_and_wait()
        assert "event=contributions_lost" in s.log()
        s.stop()
        assert embeddings_in(s.checkpoint()) == 3 * ROWS and s.checkpoint()["ledger"][0, 2] == 1


# ---- for those who watch ----

def test_metrics_are_the_documented_ones():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/OPERATIONS.md"), encoding="utf-8") as page:
        documented = set(re.findall(r"^\| `(decant_stream_\w+)` \| (counter|gauge) \| stream \|", page.read(), re.M))
    with server(metrics__prototype="127.0.0.1:0") as s, contextlib.closing(StreamClient(s.requests)) as c:
        c.contribute_and_wait(2)
        port = re.search(r"event=metrics .*port=(\d+)", s.log()).group(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        assert set(re.findall(r"^# TYPE (decant_stream_\w+) (\w+)", text, re.M)) == documented != set()
        assert "\ndecant_stream_clients 1\n" in text and "\ndecant_stream_contributions_total 2\n" in text


# ---- hostile ----

def test_refusals_change_nothing():
    with server(stream__rows_max=ROWS) as s, contextlib.closing(StreamClient(s.requests)) as c:
        c.contribute_and_wait()
        before = None
        bad_gamma = c.statistics(seq=2)
        bad_gamma["tensors"]["gamma"] = bad_gamma["tensors"]["gamma"] * 2
        poisoned = c.statistics(seq=2)
        poisoned["tensors"]["h"][0, 0] = np.nan
        cases = [
            (BAD_FIELD, STATS, c.statistics(seq=2, worker=0)),
            (BAD_FIELD, STATS, c.statistics()),
            (OUT_OF_RANGE, STATS, c.statistics(seq=2, slot=1)),
            (OUT_OF_RANGE, STATS, c.statistics(seq=2, slots=2)),
            (OUT_OF_RANGE, STATS, c.statistics(ROWS + 1, seq=2)),
            (BAD_VALUE, STATS, c.statistics(seq=1, worker=77)),
            (BAD_VALUE, STATS, c.statistics(seq=1, worker=c.name + 1000)),
            (BAD_VALUE, STATS, c.statistics(seq=1, worker=c.name + (1 << 40))),
            (BAD_VALUE, HELLO, {"worker": c.name + 1000}),
            (BAD_VALUE, STATS, bad_gamma),
            (NON_FINITE, STATS, poisoned),
            (FUTURE_STEP, STATS, c.statistics(seq=2 ** 53 - 1)),
            (WRONG_DOOR, GRADIENT, {"worker": c.name}),
            (WRONG_DOOR, REWIND, {"worker": c.name, "generation": 1}),
            (WRONG_RUN, STATS, c.statistics(seq=2, run="other")),
            (WRONG_CONFIG, STATS, c.statistics(seq=2, config=1)),
            (WRONG_GENERATION, STATS, c.statistics(seq=2, generation=7)),
        ]
        s.wait_until(lambda: c.snapshot().step == 1)
        before = c.snapshot()
        for why, kind, fields in cases:
            expect(c.ask(kind, **fields), ERROR, why)
        after = c.snapshot()
        assert after.step == before.step and all((after.tensors[t] == before.tensors[t]).all() for t in PUBLISHED)
        assert c.ask(PING, worker=c.name).scalars["applied"] == 1
        c.contribute_and_wait()
        s.stop()
        assert embeddings_in(s.checkpoint()) == 2 * ROWS


def test_a_full_ledger_forgets_only_who_has_left():
    clients_max = 1024
    with server(stream__contributions=clients_max, stream__version_ms=3600000, run__checkpoint_every=1) as s, \
            contextlib.closing(StreamClient(s.requests)) as c:
        names = [c.name]
        while len(names) < clients_max + 2:
            names.append(c.ask(HELLO).worker)
        first = names[0]
        for name in names[:clients_max]:
            expect(c.ask(STATS, **c.statistics(1, worker=name, seq=1)), ACK, wire.APPLIED)
        while not c.ask(PING, worker=names[5]).scalars.get("durable"):
            while c.receive(0.2):  # a thousand durable news to one connection, of which it keeps 64
                pass
        assert c.ask(PING, worker=names[5]).scalars["durable"] == 1
        expect(c.ask(STATS, **c.statistics(1, worker=names[-2], seq=1)), ERROR, NOT_READY)  # nobody has left
        c.ask(PING, worker=names[5], code=1)
        expect(c.ask(STATS, **c.statistics(1, worker=names[-2], seq=1)), ACK, wire.APPLIED)
        expect(c.ask(STATS, **c.statistics(1, worker=names[5], seq=1)), ERROR, EXPIRED)
        expect(c.ask(STATS, **c.statistics(1, worker=names[5], seq=2)), ERROR, EXPIRED)
        expect(c.ask(HELLO, worker=names[5]), ERROR, EXPIRED)
        expect(c.ask(STATS, **c.statistics(1, worker=first, seq=1)), ACK, wire.DUPLICATE)
        s.stop()
        s.start()
        c.return_to(s.requests)
        expect(c.ask(STATS, **c.statistics(1, worker=names[5], seq=1)), ERROR, EXPIRED)
        expect(c.ask(STATS, **c.statistics(1, worker=names[6], seq=1)), ACK, wire.DUPLICATE)
        assert s.checkpoint()["ledger"][0, 0] == names[5]


def main():
    passed = failed = 0
    for name, test in [item for item in globals().items() if item[0].startswith("test_")]:
        try:
            test()
            passed += 1
            print("ok   ", name, flush=True)
        except Exception:
            failed += 1
            print("FAIL ", name, flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
