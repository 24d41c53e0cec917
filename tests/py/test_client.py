#!/usr/bin/env python3
"""client/python from the tree against `decant serve-mixture`: the E-step, versions, and exactly once under killing of both sides.

With eta = 1 the mixture's mass is its start plus the embeddings that were applied, so that a contribution that counts twice or not is
seen. Ends with "N passed, M failed"."""
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import zmq

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "client" / "python"), str(ROOT / "tests" / "py")]
import decant
from decant import wire
from decant.mixture import COVARIANCES, Mixture
from test_wire import Reference, log_normaliser

BUILD = os.environ.get("BUILD", "build")
PATIENCE_S = 20.0  # before a wait counts as failed; nothing passes or fails by being fast
K, D, ROWS = 32, 8, 64
MASS_0 = K  # mixture.initial_mass is 1


class Server:
    """decant serve-mixture on ipc sockets, to be killed and started again with the same command."""

    def __init__(self, directory, options=(), **settings):
        self.directory = directory
        self.address, self.publish = f"ipc://{directory}/requests", f"ipc://{directory}/publish"
        sets = {"mixture.forgetting": 1, "mixture.reseed_usage": 0, "stream.contributions": 4, "stream.version_ms": 20,
                "stream.checkpoint_ms": 100, "net.prototype": self.address, "net.prototype_publish": self.publish, **settings}
        self.arguments = ["--components", str(K), "--dimensions", str(D), "--run", "client", "--out", f"{directory}/out", *options,
                          *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))]
        self.process, self.lives = None, 0

    def start(self, arguments=None):
        for name in ("requests", "publish"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.directory}/{name}")
        with open(f"{self.directory}/log", "a") as log:
            self.process = subprocess.Popen([f"{BUILD}/bin/decant", "serve-mixture", *(arguments or self.arguments)], stderr=log,
                                            stdout=log)
        deadline = time.monotonic() + PATIENCE_S
        self.lives += 1
        while len(listening := re.findall(r"event=listening requests=(\S+) publications=(\S+)", self.log())) < self.lives:
            assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        self.address, self.publish = listening[-1]
        return self

    def log(self):
        return pathlib.Path(f"{self.directory}/log").read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE_S) == 0, "Ctrl-C did not end it in order"

    def client(self, **options):
        return decant.PrototypeClient(self.address, publish=self.publish, **options)

    def newest(self):
        return sorted(pathlib.Path(f"{self.directory}/out/checkpoints").glob("step-*/mixture.safetensors"))[-1]

    def checkpoint(self):
        data = self.newest().read_bytes()
        size, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + size])
        dtypes = {"F64": "<f8", "U64": "<u8"}
        return {name: np.frombuffer(data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]],
                                    dtypes[t["dtype"]]).reshape(t["shape"])
                for name, t in header.items() if name != "__metadata__" and t["dtype"] in dtypes}

    def applied(self):
        """Embeddings in the newest checkpoint. Each embedding's mass is 1, up to float32."""
        return self.checkpoint()["mass"].sum() - MASS_0


@contextlib.contextmanager
def server(*options, **settings):
    with tempfile.TemporaryDirectory(prefix="decant-client-") as directory:
        it = Server(directory, options, **{key.replace("__", "."): value for key, value in settings.items()}).start()
        try:
            yield it
        except BaseException:
            sys.stdout.write(it.log())
            raise
        finally:
            it.process.kill()
            it.process.wait()


def unit(rng, rows=ROWS):
    h = rng.normal(size=(rows, D)).astype(np.float32)
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def log_det(W):
    return np.log(np.diagonal(W, axis1=-2, axis2=-1)).sum(axis=-1)


def mixture_of(covariance, beta, mean, V, weight, price=None):
    """As a server would publish it. V: variances, 1 / kappa, or covariance matrices."""
    log_pi, D = np.log(weight), mean.shape[1]
    if covariance in ("full", "tied"):
        spread = np.linalg.inv(np.linalg.cholesky(V))
        log_const = log_pi + (log_det(spread) if covariance == "full" else 0)
        spread = spread.reshape(-1, D * D) if covariance == "full" else spread
    elif covariance == "vmf":
        spread, log_const = V, log_pi + np.array([log_normaliser(1 / v) for v in V])
    else:
        wide = V.reshape(len(mean), -1) * np.ones(D)
        spread, log_const = V, log_pi - 0.5 * (np.log(wide) + mean ** 2 / wide).sum(axis=1)
    parts = [np.asarray(part, np.float32) for part in (mean, spread, weight, log_const)]
    return Mixture(1, 1, covariance, beta, *parts, price)


def random_mixture(covariance, beta=1.0, priced=False):
    rng = np.random.default_rng(3)
    mean = unit(rng, K) * (1 if covariance == "vmf" else 0.9)
    factor = 0.4 * rng.normal(size=(K, D, D)) / np.sqrt(D) + 0.1 * np.eye(D)
    matrices = factor @ factor.transpose(0, 2, 1) + 0.01 * np.eye(D)
    V = {"full": matrices, "tied": matrices[0], "diag": rng.uniform(0.05, 0.3, (K, D))}.get(covariance, rng.uniform(0.05, 0.3, K))
    price = rng.normal(size=K).astype(np.float32) if priced else None
    return mixture_of(covariance, beta, mean, V, rng.dirichlet(np.ones(K)), price)


def reference(mixture, h):
    """gamma (N, K) and log p (N,) of each embedding, in float64 by the definition of the density, from what is published."""
    h, mean, spread = h.astype(np.float64), mixture.mean.astype(np.float64), mixture.spread.astype(np.float64)
    K, D = mean.shape
    log_density = -0.5 * D * np.log(2 * np.pi)
    if mixture.covariance in ("full", "tied"):
        W = spread.reshape(-1, D, D) * np.ones((K, 1, 1))
        log_density = log_density + log_det(W) - 0.5 * (np.einsum("kij,nkj->nki", W, h[:, None] - mean) ** 2).sum(axis=2)
    elif mixture.covariance == "vmf":
        log_density = [log_normaliser(1 / v) for v in spread] + h @ (mean / spread[:, None]).T
    else:
        wide = spread.reshape(K, -1) * np.ones(D)
        log_density = log_density - 0.5 * (np.log(wide).sum(axis=1) + ((h[:, None] - mean) ** 2 / wide).sum(axis=2))
    l = np.log(mixture.weight.astype(np.float64)) + log_density + (0 if mixture.price is None else mixture.price.astype(np.float64))
    gamma = np.exp(mixture.beta * (l - l.max(axis=1, keepdims=True)))
    return gamma / gamma.sum(axis=1, keepdims=True), np.log(np.exp(l).sum(axis=1))


def responsibilities(statistics):
    """gamma (N, K) of what was made."""
    dense = np.zeros((len(statistics.h), statistics.components))
    dense[np.repeat(np.arange(len(dense)), np.diff(statistics.start)), statistics.index] = statistics.gamma
    return dense


def check_expectation(convert):
    h = unit(np.random.default_rng(4))
    for covariance in COVARIANCES:
        for beta in (1.0, 0.6):
            mixture = random_mixture(covariance, beta, priced=beta < 1)
            wanted, log_p = reference(mixture, h)
            got = decant.expectation(convert(3 * h), mixture)  # brought to unit length
            np.testing.assert_allclose(responsibilities(got), wanted, atol=2e-5)
            np.testing.assert_allclose(got.h, h, atol=1e-6)
            np.testing.assert_allclose(got.loglik, log_p.sum(), rtol=1e-5)
            assert (got.assigned == wanted.argmax(axis=1)).all()
            cosine = (h.astype(np.float64) @ mixture.prototypes.T).max(axis=1)
            np.testing.assert_allclose(got.distance, np.sort(1 - cosine)[::-1][:len(got.distance)], atol=1e-5)
            first = decant.expectation(convert(h), mixture, farthest=False)
            assert list(first.novel) == list(range(len(first.novel))) and len(first.novel) == len(got.novel)
            np.testing.assert_allclose(first.distance, (1 - cosine)[:len(first.distance)], atol=1e-5)
            few = decant.expectation(convert(h), mixture, top=3)
            assert np.diff(few.start).max() == 3 and few.dropped > 0
            np.testing.assert_allclose(np.add.reduceat(few.gamma, few.start[:-1].astype(int)), 1, rtol=1e-5)
    check_against_sklearn(convert)


def check_against_sklearn(convert):
    """Responsibilities and log p of the same parameters by scikit-learn's GaussianMixture."""
    golden = json.loads((ROOT / "tests/golden/em_sklearn.json").read_text())
    h, mean = np.array(golden["H"], np.float32), np.array(golden["means"])
    for covariance, form in golden["forms"].items():
        mixture = mixture_of(covariance, 1.0, mean, np.array(form["covariances"]), np.array(golden["weights"]))
        got = decant.expectation(convert(h), mixture, drop=0)
        np.testing.assert_allclose(responsibilities(got), form["resp"], atol=1e-5)
        np.testing.assert_allclose(got.loglik, np.sum(form["loglik"]), rtol=1e-5)


def test_expectation_is_the_reference():
    check_expectation(lambda h: h)


def test_what_cannot_be_is_refused_here():
    mixture = random_mixture("diag")
    for wrong in (np.zeros((2, D)), np.full((2, D), np.nan), np.ones((2, D + 1)), np.ones(D), np.ones((0, D))):
        try:
            decant.expectation(wrong, mixture)
        except ValueError:
            continue
        raise AssertionError(wrong)


def test_the_smallest_encoding_says_the_same():
    """Many embeddings with many components each are sent as sums, few as they are."""
    h = unit(np.random.default_rng(18), 8)
    for covariance in COVARIANCES:
        mixture = random_mixture(covariance, 0.05)
        for rows, top, encoding in ((512, 0, wire.DENSE), (512, 2, wire.ROWS), (2, 4, wire.FACTORED)):
            statistics = decant.expectation(np.tile(h, (64, 1))[:rows], mixture, top=top)
            sent, tensors = statistics.message()
            assert sent == encoding, (covariance, encoding, sent)
            if sent == wire.FACTORED:
                assert tensors["gamma"] is statistics.gamma and "n" not in tensors
                continue
            gamma, h64 = responsibilities(statistics), statistics.h.astype(np.float64)
            used = tensors.get("index", np.arange(K))
            assert (gamma.sum(axis=0)[used] > 0).sum() == (gamma.sum(axis=0) > 0).sum()
            squares = {"vmf": None, "tied": h64.T @ h64,
                       "full": np.einsum("nk,ni,nj->kij", gamma, h64, h64).reshape(K, D * D)[used]}.get(covariance, (gamma.T @ h64 ** 2)[used])
            for name, wanted in (("n", gamma.sum(axis=0)[used]), ("s1", (gamma.T @ h64)[used]), ("s2", squares)):
                assert (name in tensors) == (wanted is not None), (covariance, name)
                if wanted is not None:
                    np.testing.assert_allclose(tensors[name], wanted, rtol=1e-5, atol=1e-5, err_msg=covariance)


def test_every_covariance_is_the_reference():
    """Versions that the server makes of this client's statistics, by each form: those of a float64 reference."""
    for number, covariance in enumerate(COVARIANCES):
        rng = np.random.default_rng(19)
        centres = unit(rng, 5)
        with server("--covariance", covariance, stream__contributions=1, mixture__forgetting=0.99) as s, s.client(drop=0) as client:
            mixture = client.mixture()
            assert mixture.covariance == covariance
            expected = StreamReference(mixture, number, steps=1, balance=0.1)
            sent = set()
            for step in range(9):
                rows = (2, 24, 200)[step % 3]
                h = centres[rng.integers(0, 5, rows)] + 0.15 * rng.normal(size=(rows, D))
                h = (h / np.linalg.norm(h, axis=1, keepdims=True)).astype(np.float32)
                gamma, log_p = reference(mixture, h)
                statistics = decant.expectation(h, mixture, drop=0)
                np.testing.assert_allclose(statistics.loglik, log_p.sum(), rtol=1e-5, atol=1e-3)
                sent.add(statistics.message()[0])
                client.submit(h)
                client.wait_version(step + 1, PATIENCE_S)
                mixture = client.mixture()
                expected.fold(h.astype(np.float64), gamma)
                expected.check(mixture)
            assert len(sent) > 1, (covariance, sent)


class StreamReference(Reference):
    def beta(self):
        return 1.0


def test_submitted_statistics_move_the_prototypes():
    rng = np.random.default_rng(5)
    centres = unit(rng, 4)
    for publish in (True, False):
        with server() as s, decant.PrototypeClient(s.address, "client", publish=s.publish if publish else None) as client:
            assert client.prototypes().shape == (K, D)
            np.testing.assert_allclose(np.linalg.norm(client.prototypes(), axis=1), 1, rtol=1e-5)
            before = (centres @ client.prototypes().T).max(axis=1)
            for _ in range(40):
                client.submit(centres[rng.integers(0, 4, ROWS)] + 0.05 * rng.normal(size=(ROWS, D)).astype(np.float32))
            client.flush(PATIENCE_S)
            client.wait_version(10, PATIENCE_S)
            after = (centres @ client.prototypes().T).max(axis=1)
            assert after.min() > 0.97 > before.min(), (before, after)
            assert client.applied == 40


def test_deltas_give_the_servers_mixture():
    """Few embeddings touch few components, so that versions come as deltas: what the client makes of them is a snapshot's bytes."""
    for covariance in ("diag", "full", "tied"):
        with server("--covariance", covariance, stream__contributions=1, mixture__balance=0.1) as s, s.client(top=2) as client:
            rng = np.random.default_rng(6)
            for _ in range(50):
                client.submit(unit(rng, 2))
            client.flush(PATIENCE_S)
            client.wait_version(50, PATIENCE_S)
            mine = client.mixture()
            with s.client() as fresh:
                theirs = fresh.mixture()
            assert mine.version == theirs.version == 50
            assert np.abs(mine.price).max() > 0
            for part in ("mean", "spread", "weight", "log_const", "price"):
                assert (getattr(mine, part) == getattr(theirs, part)).all(), (covariance, part)
            assert mine.whitening.shape[-2:] == (D, D) if covariance != "diag" else mine.variance.shape == (K, D)


def test_many_embeddings_are_several_contributions():
    with server(stream__rows_max=50) as s, s.client() as client:
        assert client.submit(unit(np.random.default_rng(7), 120)) == 3
        client.flush(PATIENCE_S)
        client.close()
        s.stop()
        assert abs(s.applied() - 120) < 0.01


def test_responsibilities_beyond_the_largest_frame_arrive():
    """Of 16384 embeddings nearly all 32 responsibilities count: as they are they would be larger than what a server takes."""
    with server(stream__rows_max=16384) as s, s.client() as client:
        h = unit(np.random.default_rng(20), 16384)
        assert decant.expectation(h, client.mixture()).gamma.nbytes > 2 ** 20 + 4 * D * len(h)
        client.submit(h)
        client.flush(PATIENCE_S)
        client.close()
        s.stop()
        assert abs(s.applied() - len(h)) < 0.05


# ---- exactly once ----

def test_a_server_killed_again_and_again_loses_nothing():
    """A client goes on submitting while the server is killed and started; a second one comes in between."""
    with server() as s, s.client() as client:
        rng = np.random.default_rng(8)
        sent = 0
        for round_ in range(3):
            for _ in range(15):
                client.submit(unit(rng))
                sent += 1
            if round_ == 0:
                client.flush(PATIENCE_S, durable=True)
            if round_ == 1:
                with s.client() as other:
                    other.submit(unit(rng))
                    other.flush(PATIENCE_S, durable=True)
            s.kill()
            s.start()
        client.flush(PATIENCE_S)
        s.stop()
        total = (sent + 1) * ROWS
        assert abs(s.applied() - total) < 0.01, (s.applied(), total)
        ledger = s.checkpoint()["ledger"]
        assert sorted(ledger[1:, 2].tolist()) == [1, sent] and ledger[0].tolist() == [0, sent + 1, 0]
        s.start(["--out", f"{s.directory}/out"])  # its configuration is in the directory; the client's goodbye needs it


def test_a_server_told_to_end_and_started_again_goes_on():
    with server() as s, s.client() as client:
        rng = np.random.default_rng(9)
        for _ in range(10):
            client.submit(unit(rng))
        s.stop()
        for _ in range(10):
            client.submit(unit(rng))
        s.start(["--out", f"{s.directory}/out"])
        client.flush(PATIENCE_S, durable=True)
        s.stop()
        assert abs(s.applied() - 20 * ROWS) < 0.01
        s.start()


def test_a_checkpoint_that_is_gone_does_not_stop_the_client():
    with server(stream__contributions=1, run__checkpoint_every=1) as s, s.client() as client:
        for _ in range(3):
            client.submit(unit(np.random.default_rng(14)))
            client.flush(PATIENCE_S, durable=True)
        s.kill()
        data = bytearray(s.newest().read_bytes())
        data[-1] ^= 255
        s.newest().write_bytes(data)
        s.start()
        client.submit(unit(np.random.default_rng(15)))
        client.flush(PATIENCE_S, durable=True)
        client.close()
        s.stop()
        assert "event=contributions_lost" in s.log()
        assert abs(s.applied() - 3 * ROWS) < 0.01 and s.checkpoint()["ledger"].tolist()[0] == [0, 3, 1]


CHILD = """
import sys
sys.path.insert(0, {path!r})
import numpy as np, decant
rng = np.random.default_rng(10)
client = decant.PrototypeClient({address!r}, publish={publish!r})
while True:
    client.submit(rng.normal(size=({rows}, {dimensions})))
    client.flush(20)
    print(client.applied, flush=True)
"""


def test_a_killed_client_leaves_whole_contributions():
    with server() as s:
        code = CHILD.format(path=str(ROOT / "client" / "python"), address=s.address, publish=s.publish, rows=ROWS, dimensions=D)
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        seen = 0
        while seen < 20:
            seen = int(child.stdout.readline())
        child.kill()
        for line in child.stdout:
            seen = int(line)
        child.wait()
        s.stop()
        applied = s.applied() / ROWS
        assert abs(applied - round(applied)) < 1e-3 and round(applied) in (seen, seen + 1), (applied, seen)


def test_back_pressure_waits_for_the_server():
    with server(stream__window=2, stream__keep=4) as s, s.client() as client:
        rng = np.random.default_rng(11)
        os.kill(s.process.pid, signal.SIGSTOP)
        try:
            for _ in range(100):
                client.submit(unit(rng), timeout=0.2)
            raise AssertionError("a server that does not answer took everything")
        except TimeoutError:
            pass
        finally:
            os.kill(s.process.pid, signal.SIGCONT)
        before = client.submit(unit(rng), PATIENCE_S)
        client.flush(PATIENCE_S, durable=True)
        client.close()
        s.stop()
        assert abs(s.applied() - before * ROWS) < 0.01


def test_keys():
    with tempfile.TemporaryDirectory(prefix="decant-keys-") as keys:
        def keygen(*arguments):
            subprocess.run([f"{BUILD}/bin/decant", "keygen", "--out", keys, *arguments], check=True, capture_output=True)
        keygen()
        keygen("client:a", "client:b")
        wildcard = "tcp://127.0.0.1:*"
        with server(net__prototype=wildcard, net__prototype_publish=wildcard, keys__directory=keys) as s:
            for name in ("client-a", "client-b"):
                with s.client(keys=decant.Keys.read(keys, name)) as client:
                    client.submit(unit(np.random.default_rng(16)))
                    client.flush(PATIENCE_S)
            public, secret = (key.decode() for key in zmq.curve_keypair())
            for options in ({}, {"keys": decant.Keys(public, secret, decant.Keys.read(keys, "client-a").server)}):
                try:
                    s.client(timeout=0.5, **options)
                    raise AssertionError("let in")
                except (TimeoutError, decant.Refused):
                    pass
            s.stop()
            ledger = s.checkpoint()["ledger"]
            assert ledger[1:, 2].tolist() == [1, 1] and 0 != ledger[1, 1] != ledger[2, 1] != 0, ledger


# ---- the command ----

def test_commands_read_its_checkpoints():
    with server() as s, s.client() as client:
        client.submit(unit(np.random.default_rng(17)))
        client.close()
        s.stop()
        out, file = f"{s.directory}/out", f"{s.directory}/prototypes.npz"
        for arguments, text in (("prototypes --limit 2 --out {out}", "nearest"), ("status --out {out}", f"K = {K}, D = {D}"),
                                ("verify {out}", "1 of 1 checkpoints sound"),
                                ("export --what prototypes --checkpoint {out} --out {file}", "1 array")):
            done = subprocess.run([f"{BUILD}/bin/decant", *arguments.format(out=out, file=file).split()], capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            assert done.returncode == 0 and text in done.stdout, done
        assert np.load(file)["prototypes"].shape == (K, D)
        os.rename(s.newest(), s.newest().with_name("encoder.safetensors"))  # a mixture that is called so is none
        done = subprocess.run([f"{BUILD}/bin/decant", "verify", out], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 1, done


def test_another_shape_is_refused():
    with server() as s:
        with s.client() as client:
            client.submit(unit(np.random.default_rng(12)))
            client.flush(PATIENCE_S, durable=True)
        s.stop()
        for extra, text in ((["--components", "64"], "mixture.components = 32, not 64"), (["--run", "other"], "holds run 'client'"),
                            (["--covariance", "full"], "mixture.covariance = diag, not full")):
            done = subprocess.run([f"{BUILD}/bin/decant", "serve-mixture", "--out", f"{s.directory}/out", *extra], capture_output=True,
                                  text=True, timeout=PATIENCE_S)
            assert done.returncode == 1 and text in done.stderr, done
        done = subprocess.run([f"{BUILD}/bin/decant", "train", "--out", f"{s.directory}/out", "--resume"], capture_output=True,
                              text=True, timeout=PATIENCE_S)
        assert done.returncode == 2 and "serve-mixture" in done.stderr, done
        training = pathlib.Path(f"{s.directory}/training")
        training.mkdir()
        (training / "config.ini").write_text("[run]\nname = training\n")
        done = subprocess.run([f"{BUILD}/bin/decant", "serve-mixture", "--out", str(training)], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        assert done.returncode == 1 and "training run" in done.stderr, done
        assert (training / "config.ini").read_text() == "[run]\nname = training\n"
        for program in ("parameter", "worker"):
            done = subprocess.run([f"{BUILD}/bin/decant-{program}", "--set", "run.mode=stream"], capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            assert done.returncode == 2 and "serve-mixture" in done.stderr, done


def test_one_server_in_a_directory():
    with server() as s:
        done = subprocess.run([f"{BUILD}/bin/decant", "serve-mixture", "--out", f"{s.directory}/out"], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        assert done.returncode == 1 and "only one may work in a directory" in done.stderr, done
        s.stop()


def test_a_server_in_lockstep_is_refused():
    with tempfile.TemporaryDirectory(prefix="decant-client-") as directory:
        address = f"ipc://{directory}/requests"
        with open(f"{directory}/log", "w") as log:
            process = subprocess.Popen([f"{BUILD}/bin/decant-prototype", "--set", f"net.prototype={address}", "--set",
                                        f"net.prototype_publish=ipc://{directory}/publish", "--set", f"run.out={directory}"], stderr=log)
        try:
            decant.PrototypeClient(address)
            raise AssertionError("taken")
        except decant.Refused as error:
            assert "serve-mixture" in str(error)
        finally:
            process.kill()
            process.wait()


def test_the_example_of_its_page_runs():
    page = (ROOT / "client/python/README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    with server() as s:
        code = code.replace('"tcp://127.0.0.1:5711"', repr(s.address))
        exec(code, {"embeddings": unit(np.random.default_rng(13))})
        s.stop()
        assert abs(s.applied() - ROWS) < 0.01


def test_pip_installs_it():
    if not all(importlib.util.find_spec(name) for name in ("pip", "setuptools")):
        return "no pip"
    with tempfile.TemporaryDirectory(prefix="decant-pip-") as directory:
        shutil.copytree(ROOT / "client/python", f"{directory}/source")  # pip builds in it
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target",
                        f"{directory}/target", f"{directory}/source"], check=True, stderr=subprocess.DEVNULL, timeout=120)
        assert os.path.exists(f"{directory}/target/decant/py.typed")
        subprocess.run([sys.executable, "-c", "import decant, sys; assert decant.__file__.startswith(sys.argv[1])", f"{directory}/target"],
                       check=True, cwd=f"{directory}/target", env={**os.environ, "PYTHONPATH": f"{directory}/target"})
    return None


def main():
    passed = failed = skipped = 0
    for name, test in [item for item in globals().items() if item[0].startswith("test_")]:
        try:
            began = time.monotonic()
            why = test()
            skipped += bool(why)
            passed += not why
            print("skip " if why else "ok   ", name, why or f"({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print("FAIL ", name, flush=True)
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
