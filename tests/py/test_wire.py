#!/usr/bin/env python3
"""The wire protocol from outside: decant-prototype against the client of wire_client.py and a float64 reference.

Every returned mixture is compared with the reference, deltas with snapshots, and everything that docs/PROTOCOL.md says is refused is
sent: the reason must be the documented one and the mixture must not change by a byte. Ends with "N passed, M failed"."""
import contextlib
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import msgpack
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire_client as wire
from wire_client import ACK, ERROR, GRADIENT, HELLO, METRICS, MIXTURE, MIXTURE_GET, PING, PONG, STATS

BUILD = os.environ.get("BUILD", "build")
ROOT = pathlib.Path(__file__).resolve().parents[2]
K, D, SLOTS, SLOT_SIZE, RUN = 32, 8, 2, 8, "wire-test"
ENCODINGS = {wire.DENSE: wire.dense, wire.ROWS: wire.rows, wire.FACTORED: wire.factored}
PATIENCE_S = 20.0  # before a wait counts as failed; nothing passes or fails by being fast

(BAD_HEADER, BAD_VERSION, BAD_TYPE, WRONG_DOOR, WRONG_RUN, WRONG_CONFIG, WRONG_SHARD, WRONG_GENERATION, BAD_FIELD,
 BAD_SHAPE, BAD_DTYPE, BAD_ENCODING, BAD_VALUE, NON_FINITE, OUT_OF_RANGE, TOO_LARGE, FUTURE_STEP, NOT_READY,
 UNKNOWN_VERSION, OVERLAP, STOPPING) = range(1, 22)


# ---- a server and its client ----

@contextlib.contextmanager
def running_server(**settings):
    """decant-prototype on ipc sockets in a directory of its own; must end in order when told to."""
    with tempfile.TemporaryDirectory(prefix="decant-wire-") as directory:
        requests, publish = f"ipc://{directory}/requests", f"ipc://{directory}/publish"
        keys = {"run.name": RUN, "run.out": directory, "run.slots": SLOTS, "run.slot_size": SLOT_SIZE, "run.log_every": 1,
                "run.steps": 100, "mixture.components": K, "mixture.dimensions": D, "net.prototype": requests,
                "net.prototype_publish": publish,
                **{key.replace("__", "."): value for key, value in settings.items()}}
        keys["loss.block"] = keys["mixture.components"]
        arguments = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        with open(os.path.join(directory, "log"), "w+") as log:
            process = subprocess.Popen([os.path.join(BUILD, "bin", "decant-prototype"), *arguments], stderr=log, stdout=log)
            try:
                while not os.path.exists(f"{directory}/publish"):
                    assert process.poll() is None, "the server did not start"
                    time.sleep(0.01)
                yield requests, publish
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0, "the server did not end in order"
            finally:
                process.kill()
                process.wait()
                if sys.exc_info()[0]:
                    log.seek(0)
                    sys.stdout.write(log.read())


@contextlib.contextmanager
def session(**settings):
    """A server and a client that has said HELLO."""
    with running_server(**settings) as (requests, publish), contextlib.closing(wire.Client(requests)) as client:
        client.welcome = client.hello()
        client.publish_endpoint = publish
        yield client


def unit_rows(rng, n, centres):
    """n unit vectors scattered around some of the centres."""
    h = centres[rng.integers(0, len(centres), n)] + 0.15 * rng.normal(size=(n, centres.shape[1]))
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def expect_ack(answer, code=wire.APPLIED):
    assert answer.type == ACK, (answer.header, "expected an ACK")
    assert answer.code == code, (answer.header, code)


def send_step(client, rng, mixture, encoding, top=None):
    """Statistics of every slot of the mixture's step; returns the embeddings and responsibilities."""
    sent = []
    for slot in range(SLOTS):
        h = unit_rows(rng, SLOT_SIZE, client.centres)
        gamma, loglik = mixture.responsibilities(h, top)
        message = ENCODINGS[encoding](h, gamma, loglik)
        if mixture.covariance == wire.VMF:
            message["tensors"].pop("s2", None)
        if mixture.covariance == wire.TIED and encoding != wire.FACTORED:
            message["tensors"]["s2"] = (h.T @ h).astype(np.float32)
        if mixture.covariance == wire.FULL_COVARIANCE and encoding != wire.FACTORED:
            matrices = np.einsum("nk,ni,nj->kij", gamma, h, h).reshape(K, D * D).astype(np.float32)
            message["tensors"]["s2"] = matrices[message["tensors"].get("index", np.arange(K))]
        answer = client.request(STATS, step=mixture.version, slot=slot, slots=1, **message)
        expect_ack(answer)
        assert (answer.step, answer.slot, answer.slots) == (mixture.version, slot, 1)
        sent.append((h, gamma))
    return [np.concatenate(part) for part in zip(*sent)]


# ---- the reference: online EM in float64, shared formulas section 2 ----

def concentration(R):
    return R * (D - R ** 2) / (1 - R ** 2)


def log_normaliser(kappa):
    """log C_D(kappa), the Bessel function by Poisson's integral, for which equal steps converge exponentially."""
    nu, t = D / 2 - 1, np.arange(0.5, 2000) * np.pi / 2000
    integral = (np.exp(kappa * (np.cos(t) - 1)) * np.sin(t) ** (2 * nu)).sum() * np.pi / 2000
    bessel = nu * np.log(kappa / 2) - 0.5 * np.log(np.pi) - math.lgamma(nu + 0.5) + kappa + np.log(integral)
    return nu * np.log(kappa) - D / 2 * np.log(2 * np.pi) - bessel


class Reference:
    eta, floor, n0, usage_momentum, reseed_usage, reseed_distance = 0.99, 1e-3, 1.0, 0.97, 0.2, 0.1

    def __init__(self, start, covariance, steps, reseed_max=1, usage_momentum=0.97, balance=0.0, clip=1.0, convex=False, farthest=True,
                 power=0.0):
        mu = start.mean.astype(np.float64)
        self.N = np.full(K, self.n0)
        self.S1 = self.n0 * mu
        if covariance == wire.VMF:  # as wide as a fresh Gaussian: 1/kappa = 1/D
            candidates = np.linspace(0, 1, 1000001)[:-1]
            self.S1 *= candidates[np.argmin(abs(concentration(candidates) - D))]
        self.S2 = self.n0 * (mu ** 2 + 1.0 / D)
        self.scatter = K * self.n0 * np.eye(D) / D
        if covariance == wire.FULL_COVARIANCE:
            self.S2 = self.n0 * (mu[:, :, None] * mu[:, None, :] + np.eye(D) / D)
        self.usage = np.full(K, 1.0 / K)
        self.covariance, self.steps, self.reseed_max, self.version = covariance, steps, reseed_max, 0
        self.usage_momentum = usage_momentum
        self.reseeded = 0
        self.convex, self.farthest = convex, farthest
        self.balance, self.clip, self.price, self.power = balance, clip, np.zeros(K), power

    def fold(self, h, gamma, novel=None, distance=None):
        n = gamma.sum(axis=0)
        decay = self.eta ** (n / len(h) if self.convex else n)
        take = 1 - decay if self.convex else np.ones(K)
        if self.covariance == wire.TIED:
            self.fold_scatter(h, gamma, n, decay)
        self.N = decay * self.N + take * n
        self.S1 = decay[:, None] * self.S1 + take[:, None] * (gamma.T @ h)
        if self.covariance == wire.FULL_COVARIANCE:
            self.S2 = decay[:, None, None] * self.S2 + take[:, None, None] * np.einsum("nk,ni,nj->kij", gamma, h, h)
        else:
            self.S2 = decay[:, None] * self.S2 + take[:, None] * (gamma.T @ h ** 2)
        self.usage = self.usage_momentum * self.usage + (1 - self.usage_momentum) * n / n.sum()
        if novel is not None:
            self.reseed(novel, distance.copy())
        wanted = np.empty(K)
        wanted[np.lexsort((np.arange(K), -self.usage))] = np.arange(1, K + 1) ** -self.power
        self.price += self.balance * np.clip(np.log(wanted / wanted.sum() / self.usage), -self.clip, self.clip)
        self.price -= np.log(np.exp(self.price).mean())
        self.version += 1

    def fold_scatter(self, h, gamma, n, decay):
        """What lies within the step's components, and between each as it was and as it is in the step."""
        used = n > 0
        s1 = (gamma.T @ h)[used]
        between = self.S1[used] / self.N[used][:, None] - s1 / n[used][:, None]
        kept = decay[used] * self.N[used]
        self.scatter = (decay @ self.N) / self.N.sum() * self.scatter + h.T @ h - (s1 / n[used][:, None]).T @ s1
        self.scatter += (between * (kept * n[used] / (kept + n[used]))[:, None]).T @ between

    def reseed(self, novel, distance):
        order = sorted(range(K), key=lambda k: (self.usage[k], k))
        for k in [k for k in order if self.usage[k] < self.reseed_usage / K][:self.reseed_max]:
            j = int(np.argmax(distance if self.farthest else distance >= self.reseed_distance))
            if distance[j] < self.reseed_distance:
                return
            self.N[k], self.usage[k], self.price[k] = self.n0, 1.0 / K, 0.0
            self.S1[k], self.S2[k] = self.n0 * novel[j], self.n0 * (novel[j] ** 2 + 1.0 / D)
            distance = np.minimum(distance, 1 - novel @ novel[j])
            self.reseeded += 1

    def mean(self):
        return self.S1 / (np.linalg.norm(self.S1, axis=1) if self.covariance == wire.VMF else self.N)[:, None]

    def variance(self):
        if self.covariance == wire.VMF:
            return np.maximum(1 / concentration(np.linalg.norm(self.S1, axis=1) / self.N), self.floor)
        v = self.S2 / self.N[:, None] - self.mean() ** 2
        return np.maximum(v.mean(axis=1) if self.covariance == wire.SPHERICAL else v, self.floor)

    def beta(self):
        return 0.5 * 2 ** min(1.0, self.version / (0.5 * self.steps))

    def check(self, mixture):
        assert mixture.version == self.version
        np.testing.assert_allclose(mixture.mean, self.mean(), rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(mixture.weight, 1.0 / K, rtol=1e-6)
        np.testing.assert_allclose(mixture.price, self.price, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mixture.beta, self.beta(), rtol=1e-12)
        if self.covariance in (wire.FULL_COVARIANCE, wire.TIED):
            self.check_whitening(mixture)
            return
        np.testing.assert_allclose(mixture.variance, self.variance(), rtol=1e-4, atol=5e-6)
        variance = mixture.variance.astype(np.float64).reshape(K, -1) * np.ones(D)
        if self.covariance == wire.VMF:
            np.testing.assert_allclose(mixture.log_const, [log_normaliser(1 / v[0]) - np.log(K) for v in variance], rtol=1e-6)
            return
        log_const = -np.log(K) - 0.5 * (np.log(variance) + mixture.mean.astype(np.float64) ** 2 / variance).sum(axis=1)
        np.testing.assert_allclose(mixture.log_const, log_const, rtol=1e-6, atol=1e-5)


    def check_whitening(self, mixture):
        mean, whitening = self.mean(), mixture.whitening.astype(np.float64).reshape(-1, D, D)
        if self.covariance == wire.TIED:
            V = (self.scatter / self.N.sum() + self.floor * np.eye(D))[None]
            np.testing.assert_allclose(whitening @ V @ whitening.transpose(0, 2, 1), np.eye(D)[None], atol=2e-3)
            np.testing.assert_allclose(mixture.log_const, -np.log(K), rtol=1e-6)
            return
        V = self.S2 / self.N[:, None, None] - mean[:, :, None] * mean[:, None, :] + self.floor * np.eye(D)
        np.testing.assert_allclose(whitening @ V @ whitening.transpose(0, 2, 1), np.broadcast_to(np.eye(D), V.shape), atol=2e-3)
        log_det = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
        np.testing.assert_allclose(mixture.log_const, log_det - np.log(K), rtol=1e-6, atol=1e-5)


def newest(client):
    mixture = wire.Mixture(client.welcome)
    mixture.apply(client.snapshot())
    return mixture


# ---- statistics in, mixtures out ----

def check_mixtures(name, covariance, balance=0.0, convex=False, power=0.0):
    """Three encodings in turn, several steps: each returned mixture is the reference's."""
    rng = np.random.default_rng(1)
    with session(mixture__covariance=name, run__steps=20, mixture__balance=balance, mixture__balance_power=power,
                 mixture__forgetting_form="convex" if convex else "mass") as client:
        assert client.welcome.scalars["covariance"] == covariance
        client.centres = unit_rows(rng, 5, rng.normal(size=(5, D)))
        mixture = newest(client)
        np.testing.assert_allclose(np.linalg.norm(mixture.mean, axis=1), 1, rtol=1e-6)
        reference = Reference(mixture, covariance, steps=20, balance=balance, convex=convex, power=power)
        reference.check(mixture)
        for step in range(12):
            reference.fold(*send_step(client, rng, mixture, list(ENCODINGS)[step % 3], top=None if step % 2 else 4))
            mixture = newest(client)
            reference.check(mixture)


def test_spherical_mixture_is_the_reference():
    check_mixtures("spherical", wire.SPHERICAL, convex=True)


def test_diagonal_mixture_is_the_reference():
    check_mixtures("diag", wire.DIAGONAL)


def test_von_mises_fisher_mixture_is_the_reference():
    check_mixtures("vmf", wire.VMF)


def test_full_covariances_are_those_of_the_reference():
    check_mixtures("full", wire.FULL_COVARIANCE)


def test_a_tied_covariance_is_that_of_the_reference():
    check_mixtures("tied", wire.TIED)


def test_prices_are_those_of_the_reference():
    check_mixtures("diag", wire.DIAGONAL, balance=0.5)


def test_prices_of_a_power_law_are_those_of_the_reference():
    check_mixtures("diag", wire.DIAGONAL, balance=0.5, power=1.5)


def check_reseeding(choice):
    rng = np.random.default_rng(2)
    with session(mixture__covariance="diag", mixture__usage_momentum=0.4, mixture__reseed_max=3, mixture__reseed_choice=choice,
                 mixture__balance=0) as client:
        mixture = newest(client)
        reference = Reference(mixture, wire.DIAGONAL, steps=100, reseed_max=3, usage_momentum=0.4, farthest=choice == "farthest")
        for step in range(6):
            centres = unit_rows(rng, 3, rng.normal(size=(3, D)))
            parts = []
            for slot in range(SLOTS):
                h = unit_rows(rng, SLOT_SIZE, centres)
                gamma, loglik = mixture.responsibilities(h, top=2)
                prototypes = mixture.mean / np.linalg.norm(mixture.mean, axis=1, keepdims=True)
                distance = 1 - (h @ prototypes.T).max(axis=1)
                far = np.argsort(-distance)[:3] if choice == "farthest" else np.arange(3)
                extra = {"novel": h[far].astype(np.float32), "novel_distance": distance[far].astype(np.float32),
                         "assigned": gamma.argmax(axis=1).astype(np.uint32)}
                expect_ack(client.request(STATS, step=step, slot=slot, slots=1, **wire.factored(h, gamma, loglik, extra)))
                parts.append((h, gamma, h[far], distance[far]))
            reference.fold(*[np.concatenate(part) for part in zip(*parts)])
            mixture = newest(client)
            reference.check(mixture)
        assert reference.reseeded > 0


def test_unused_components_are_reseeded_like_the_reference():
    check_reseeding("farthest")


def test_they_go_to_the_first_that_are_far_enough():
    check_reseeding("random")


def test_first_embeddings_become_prototypes():
    """k-means++: forty embeddings are wanted, sixteen of steps 0 and 1 and eight of step 2, and no others."""
    rng = np.random.default_rng(3)
    with session(mixture__init="kmeans++", mixture__init_embeddings=40, mixture__balance=0) as client:
        assert client.welcome.scalars["sample"] == 40
        centres, sent = unit_rows(rng, 5, rng.normal(size=(5, D))), []
        for step in range(4):
            mixture = newest(client)
            for slot in range(SLOTS):
                h = unit_rows(rng, SLOT_SIZE, centres).astype(np.float32)
                wanted = SLOT_SIZE if step < 2 or (step, slot) == (2, 0) else 0
                message = wire.factored(h, *mixture.responsibilities(h))
                for sample in (h[:SLOT_SIZE - wanted], h[:5]):
                    refused = {**message, "tensors": {**message["tensors"], **({"sample": sample} if len(sample) else {})}}
                    answer = client.request(STATS, step=step, slot=slot, slots=1, **refused)
                    assert answer.type == ERROR and answer.code == BAD_SHAPE, answer.header
                    assert f"these slots have {wanted}" in answer.header["text"], answer.header
                if wanted:
                    message["tensors"]["sample"] = h
                    sent += [row.tobytes() for row in h]
                expect_ack(client.request(STATS, step=step, slot=slot, slots=1, **message))
            if step == 2:
                means = [row.astype(np.float32).tobytes() for row in newest(client).mean]
                assert len(sent) == 40 and len(set(means)) == K and set(means) <= set(sent)


def test_encodings_lead_to_the_same_bytes():
    rng = np.random.default_rng(3)
    centres = unit_rows(rng, 4, rng.normal(size=(4, D)))
    batches = [unit_rows(rng, SLOT_SIZE, centres).astype(np.float32) for _ in range(SLOTS)]
    results = set()
    for encoding in ENCODINGS.values():
        with session() as client:
            mixture = newest(client)
            for slot, h in enumerate(batches):
                gamma, loglik = mixture.responsibilities(h.astype(np.float64), top=5)
                expect_ack(client.request(STATS, step=0, slot=slot, slots=1, **encoding(h, gamma, loglik)))
            results.add(newest(client).bytes())
    assert len(results) == 1


def test_order_of_slots_does_not_matter():
    """Slot 1 before slot 0, or both at once as the sum of a subtree: the same bytes."""
    rng = np.random.default_rng(4)
    centres = unit_rows(rng, 4, rng.normal(size=(4, D)))
    batches = [unit_rows(rng, SLOT_SIZE, centres) for _ in range(SLOTS)]

    def run(order):
        with session() as client:
            mixture = newest(client)
            messages = [wire.dense(h, mixture.responsibilities(h)[0]) for h in batches]
            if order is None:
                both = messages[0]
                for name in ("n", "s1", "s2"):
                    both["tensors"][name] = both["tensors"][name] + messages[1]["tensors"][name]
                both["scalars"]["count"] *= 2
                expect_ack(client.request(STATS, step=0, slot=0, slots=2, **both))
            for slot in order or ():
                expect_ack(client.request(STATS, step=0, slot=slot, slots=1, **messages[slot]))
            return newest(client).bytes()

    assert run((0, 1)) == run((1, 0)) == run(None)


def test_deltas_reproduce_the_snapshot():
    rng = np.random.default_rng(5)
    with session(mixture__balance=0.1) as client, contextlib.closing(wire.Subscriber(client.publish_endpoint, "mixture")) as subscriber:
        client.centres = unit_rows(rng, 3, rng.normal(size=(3, D)))
        follower = newest(client)
        deltas = 0
        for step in range(12):
            send_step(client, rng, follower, wire.FACTORED, top=1)
            while follower.version <= step:
                published = subscriber.receive(1.0)
                if published is None or not follower.apply(published):
                    follower.apply(client.snapshot())  # a slow joiner's way, or a gap's
                else:
                    deltas += published.encoding == wire.DELTA and published.step == follower.version
            assert follower.bytes() == newest(client).bytes()
        assert deltas > 0


def test_metrics_are_published():
    rng = np.random.default_rng(6)
    with session() as client, contextlib.closing(wire.Subscriber(client.publish_endpoint, "metrics")) as subscriber:
        client.centres = unit_rows(rng, 3, rng.normal(size=(3, D)))
        deadline, seen = time.monotonic() + PATIENCE_S, {}
        for _ in range(90):
            send_step(client, rng, newest(client), wire.ROWS)
            message = subscriber.receive(0.2)
            if message is not None:
                assert message.type == METRICS and message.run == RUN
                seen.update(message.scalars)
            if {"loglik", "beta", "unique_0025", "effective_rank"} <= seen.keys() or time.monotonic() > deadline:
                break
        assert {"version", "loglik", "beta", "usage_perplexity", "unique_0025", "unique_05", "effective_rank"} <= seen.keys(), seen


# ---- discovery ----

def test_nameless_hello_learns_everything():
    with running_server() as (requests, _), contextlib.closing(wire.Client(requests)) as client:
        welcome = client.hello()
        assert (welcome.run, welcome.step) == (RUN, 0)
        assert welcome.config != 0 and welcome.generation > 0
        assert re.fullmatch(r"\d+\.\d+\.\d+", welcome.text), welcome.text
        expected = {"components": K, "dimensions": D, "covariance": wire.DIAGONAL, "slots": SLOTS, "slot_size": SLOT_SIZE,
                    "rows_max": SLOT_SIZE, "total_steps": 100}
        assert expected.items() <= welcome.scalars.items(), welcome.scalars
        pong = client.exchange(wire.encode(PING))
        assert pong.type == PONG and pong.run == RUN and pong.generation == welcome.generation
        assert client.exchange(wire.encode(MIXTURE_GET, run=RUN, seq=1)).type == MIXTURE  # config 0 is fine
        assert client.exchange(wire.encode(MIXTURE_GET, seq=1)).code == WRONG_RUN  # but then the run must be named


def test_length_of_the_run_may_come_with_hello():
    with running_server(run__steps=0) as (requests, _), contextlib.closing(wire.Client(requests)) as client:
        assert client.hello().scalars["total_steps"] == 0
        h = np.eye(D)[:1]
        statistics = wire.factored(h, np.eye(K)[:1])
        answer = client.request(STATS, step=0, slot=0, slots=1, **statistics)
        assert (answer.type, answer.code) == (ERROR, NOT_READY)
        assert client.hello(total_steps=50).scalars["total_steps"] == 50
        answer = client.request(HELLO, scalars={"total_steps": 51})
        assert (answer.type, answer.code) == (ERROR, WRONG_CONFIG)
        expect_ack(client.request(STATS, step=0, slot=0, slots=1, **statistics))


def documented_frames():
    """The byte examples of docs/PROTOCOL.md: a list of messages, each a list of frames."""
    text = (ROOT / "docs" / "PROTOCOL.md").read_text()
    examples = []
    for block in re.findall(r"```frames\n(.*?)```", text, re.S):
        frames = []
        for line in block.splitlines():
            code = line.split("|")[0]
            if code.startswith("["):
                frames.append(b"")
                code = code[code.index("]") + 1:]
            frames[-1] += bytes.fromhex(code.strip())
        examples.append(frames)
    return examples


def test_fingerprints_are_whole_numbers():
    with session() as client:
        for name in "data", "numerics":
            for value in 0.5, -1, 2.0 ** 53, 1e300:
                answer = client.request(HELLO, worker=7, scalars={name: value})
                assert (answer.type, answer.code) == (ERROR, BAD_VALUE), (name, value, answer.header)
            for value in 2.0 ** 53 - 1, 0:
                client.send_frames(wire.encode(HELLO, worker=7, scalars={name: value}, **client.facts))
                answer = client.receive()
                assert answer.type == wire.WELCOME, (name, value, answer.header)


def test_examples_of_the_documentation_are_accepted():
    ping, statistics = documented_frames()
    settings = {"run__name": "demo", "run__slots": 1, "mixture__components": 4, "mixture__dimensions": 2}
    with session(**settings) as client:
        assert client.exchange(ping).type == PONG
        expect_ack(client.exchange(statistics))
        gamma = np.array([[0, 0.75, 0, 0.25]])
        again = wire.encode(STATS, run="demo", slots=1, **wire.factored(np.array([[0.6, 0.8]]), gamma, -1.5))
        assert msgpack.unpackb(again[0]) == msgpack.unpackb(statistics[0]) and again[1:] == statistics[1:]
        assert newest(client).version == 1


# ---- refusals ----

class Refusals:
    """A client with one slot of step 0 applied; whatever it sends must be refused and change nothing."""

    def __init__(self, client):
        rng = np.random.default_rng(7)
        self.client = client
        self.h = unit_rows(rng, SLOT_SIZE, rng.normal(size=(4, D)))
        self.gamma = newest(client).responsibilities(self.h, top=3)[0]
        expect_ack(client.request(STATS, step=0, slot=0, slots=1, **wire.factored(self.h, self.gamma)))
        self.before = newest(client).bytes()

    def message(self, encoding=wire.FACTORED):
        message = ENCODINGS[encoding](self.h, self.gamma)
        message["tensors"] = {name: array.copy() for name, array in message["tensors"].items()}
        return message

    def send(self, reason, kind=STATS, message=None, **fields):
        fields = {"step": 0, "slot": 1, "slots": 1, **(message or self.message()), **fields}
        self.check(self.client.request(kind, **fields), reason)

    def send_frames(self, reason, frames):
        self.check(self.client.exchange(frames), reason)

    def damaged(self, reason, encoding, name, change):
        message = self.message(encoding)
        message["tensors"][name] = change(message["tensors"][name])
        self.send(reason, message=message)

    def check(self, answer, reason):
        assert answer.type == ERROR, (answer.header, "expected reason", reason)
        assert answer.code == reason, (answer.header, "expected reason", reason)
        self.unchanged()

    def unchanged(self):
        mixture = newest(self.client)
        assert mixture.version == 0 and mixture.bytes() == self.before

    def finish(self):
        """Nothing refused has been counted: the missing slot completes the step with the same result as in peace."""
        expect_ack(self.client.request(STATS, step=0, slot=1, slots=1, **self.message()))
        assert newest(self.client).version == 1


@contextlib.contextmanager
def refusals():
    with session() as client:
        r = Refusals(client)
        yield r
        r.finish()


def header(**fields):
    return msgpack.packb({"version": 1, "type": STATS, "run": RUN, **fields})


def test_malformed_headers():
    with refusals() as r:
        for raw in (b"", b"\xc1", b"\x90", b"\x01", b"\x81", header() + b"\x00", header()[:-1], b"\xdf\x7f\xff\xff\xff",
                    msgpack.packb({1: 2}), b"\x82\xa7version\x01\xa7version\x01", msgpack.packb({"type": STATS}),
                    header(deep=[[[[[]]], [[[1]]]]])):
            r.send_frames(BAD_HEADER, [raw])
        r.send_frames(BAD_HEADER, [b"", header()])  # what a REQ socket would send
        r.send_frames(BAD_VERSION, [msgpack.packb({"version": 2, "type": STATS})])
        r.send_frames(BAD_TYPE, [msgpack.packb({"version": 1, "type": 99})])
        r.send_frames(BAD_TYPE, [msgpack.packb({"version": 1})])
        r.send_frames(TOO_LARGE, [header(pad="x" * 4096)])
        r.send_frames(TOO_LARGE, [header(scalars={f"s{i}": 1.0 for i in range(25)})])
        r.send_frames(BAD_FIELD, [header(step=-1)])
        r.send_frames(BAD_FIELD, [header(step="0")])
        r.send_frames(BAD_FIELD, [header(text="two\nlines")])
        r.send_frames(BAD_FIELD, [header(scalars={"Name": 1.0})])
        r.send_frames(OUT_OF_RANGE, [header(step=2 ** 53)])
        r.send_frames(OUT_OF_RANGE, [header(slot=2 ** 32)])
        r.send_frames(NON_FINITE, [header(scalars={"count": float("nan")})])
        r.send_frames(BAD_SHAPE, [header(), b"a frame that is not declared"])
        r.send_frames(BAD_SHAPE, [header(tensors=[["h", "F32", [1]]])])
        r.send_frames(BAD_SHAPE, [header(tensors=[["h", "F32", [2 ** 62, 8]]]), b""])
        r.send_frames(BAD_DTYPE, [header(tensors=[["h", "F16", [1]]]), b"ab"])
        r.send_frames(BAD_FIELD, [header(tensors=[["h", "U8", [1]], ["h", "U8", [1]]]), b"a", b"a"])


def test_unknown_keys_are_skipped():
    with session() as client:
        h = np.eye(D)[:2]
        expect_ack(client.request(STATS, slots=1, of_the_future={"a": [1]}, **wire.factored(h, np.eye(K)[:2])))


def test_foreign_messages():
    with refusals() as r:
        r.send(WRONG_DOOR, kind=GRADIENT, message={"tensors": {"grad": np.zeros(4, np.float32)}}, worker=1)
        for kind in (2, 3, 4, 5, 8, 9, 10, 11, 13, 15, 16, 17):
            r.send_frames(WRONG_DOOR, wire.encode(kind, run=RUN))
        r.send(WRONG_RUN, run="another")
        r.send(WRONG_RUN, run="")
        r.send(WRONG_CONFIG, config=r.client.welcome.config ^ 1)
        r.send(WRONG_SHARD, shard=1)
        r.send(WRONG_GENERATION, generation=r.client.welcome.generation + 1)


def test_slots_and_steps():
    with refusals() as r:
        r.send(OUT_OF_RANGE, slot=SLOTS)
        r.send(OUT_OF_RANGE, slots=0)
        r.send(OUT_OF_RANGE, slot=1, slots=2)
        r.send(OUT_OF_RANGE, slot=0, slots=2 ** 31 - 1)
        r.send(FUTURE_STEP, step=1)
        r.send(OUT_OF_RANGE, step=100)
        both = r.message(wire.DENSE)
        r.send(OVERLAP, message=both, slot=0, slots=2)
        expect_ack(r.client.request(STATS, step=0, slot=0, slots=1, **r.message()), wire.DUPLICATE)
        r.unchanged()
        r.check(r.client.request(MIXTURE_GET, step=5), UNKNOWN_VERSION)


def test_stale_statistics_and_older_versions():
    with session() as client:
        r = Refusals(client)
        r.finish()
        after = newest(client).bytes()
        for slot in range(SLOTS):
            expect_ack(client.request(STATS, step=0, slot=slot, slots=1, **r.message()), wire.STALE)
        assert newest(client).bytes() == after
        before = client.request(MIXTURE_GET, step=0)  # the version before the newest is still held
        mixture = wire.Mixture(client.welcome)
        mixture.apply(before)
        assert before.step == 0 and mixture.bytes() == r.before


def test_shapes_and_types():
    with refusals() as r:
        r.send(BAD_ENCODING, encoding=0)
        r.send(BAD_ENCODING, encoding=4)
        for encoding in ENCODINGS:
            for name in r.message(encoding)["tensors"]:
                message = r.message(encoding)
                del message["tensors"][name]
                r.send(BAD_FIELD, message=message)
                r.damaged(BAD_DTYPE, encoding, name, lambda array: array.astype(np.float64))
                r.damaged(BAD_SHAPE, encoding, name, lambda array: array[None])
        for name in ("n", "s1", "s2"):
            r.damaged(BAD_SHAPE, wire.DENSE, name, lambda array: array[:-1])
        for name in ("h", "start", "gamma"):
            r.damaged(BAD_SHAPE, wire.FACTORED, name, lambda array: array[:-1])
        r.damaged(BAD_SHAPE, wire.FACTORED, "h", lambda h: h[:, :-1])


def changed(at, value):
    def change(array):
        array.reshape(-1)[at] = value
        return array
    return change


def test_values():
    with refusals() as r:
        for encoding in ENCODINGS:
            for name, array in r.message(encoding)["tensors"].items():
                if array.dtype == np.float32:
                    r.damaged(NON_FINITE, encoding, name, changed(1, np.nan))
                    r.damaged(NON_FINITE, encoding, name, changed(0, np.inf))
        for encoding in (wire.DENSE, wire.ROWS):
            r.damaged(BAD_VALUE, encoding, "n", changed(0, -1))
            r.damaged(BAD_VALUE, encoding, "n", changed(0, 1000))
            r.damaged(BAD_VALUE, encoding, "s2", changed(0, -1))
            r.damaged(BAD_VALUE, encoding, "s1", changed(0, 1e30))
        for encoding in (wire.ROWS, wire.FACTORED):
            r.damaged(OUT_OF_RANGE, encoding, "index", changed(0, K))
            r.damaged(BAD_VALUE, encoding, "index", lambda index: index[::-1])
        r.damaged(BAD_VALUE, wire.FACTORED, "h", changed(0, 2e6))
        r.damaged(BAD_VALUE, wire.FACTORED, "gamma", changed(0, 1.5))
        r.damaged(BAD_VALUE, wire.FACTORED, "gamma", changed(0, -0.5))
        r.damaged(BAD_VALUE, wire.FACTORED, "gamma", lambda gamma: gamma * np.float32(0.5))
        r.damaged(BAD_VALUE, wire.FACTORED, "start", changed(0, 1))
        r.damaged(BAD_VALUE, wire.FACTORED, "start", changed(2, 2 ** 31))


def test_counts_and_extras():
    with refusals() as r:
        for count, reason in ((0, OUT_OF_RANGE), (1000, OUT_OF_RANGE), (7.5, BAD_VALUE), (-1, OUT_OF_RANGE)):
            r.send(reason, scalars={"count": count})
        r.send(OUT_OF_RANGE, scalars={})
        r.send(BAD_VALUE, scalars={"count": float(SLOT_SIZE), "dropped": -1.0})
        novel, distance = r.h[:2].astype(np.float32), np.array([1, 0.5], np.float32)
        for extra, reason in (({"novel": novel}, BAD_FIELD), ({"novel_distance": distance}, BAD_FIELD),
                              ({"novel": novel, "novel_distance": distance[:1]}, BAD_SHAPE),
                              ({"novel": novel * np.float32(np.nan), "novel_distance": distance}, NON_FINITE),
                              ({"novel": novel, "novel_distance": distance + 2}, BAD_VALUE),
                              ({"assigned": np.full(SLOT_SIZE, K, np.uint32)}, OUT_OF_RANGE),
                              ({"assigned": np.zeros(SLOT_SIZE + 1, np.uint32)}, BAD_SHAPE)):
            message = r.message()
            message["tensors"].update(extra)
            r.send(reason, message=message)


def test_oversized_messages_get_no_answer_and_change_nothing():
    with refusals() as r:
        r.client.send_frames([header(tensors=[["h", "U8", [4 << 20]]]), bytes(4 << 20)])
        r.client.hello()  # the connection was closed, and comes back
        r.client.facts["generation"] = r.client.welcome.generation
        r.unchanged()
        r.client.send_frames([header()] + [b"x"] * 20)
        r.unchanged()  # and no answer to that came in between
        r.client.facts.pop("generation")


# ---- main ----

def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            test()
            print("ok  ", name, flush=True)
        except Exception:  # whatever went wrong is that test's failure; the others still run
            failed += 1
            print("FAIL", name)
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
