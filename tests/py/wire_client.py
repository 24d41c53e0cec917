"""A client of the prototype server, written from docs/PROTOCOL.md alone: ZeroMQ, MessagePack and numpy, nothing of ours.

    client = Client("tcp://127.0.0.1:5711")
    welcome = client.hello(total_steps=1000)           # learns run, K, D, slots ...
    mixture = Mixture(welcome)
    mixture.apply(client.snapshot())
    client.request(STATS, step=0, slots=1, **factored(h, gamma))   # -> ACK
"""
import time

import msgpack
import numpy as np
import zmq

VERSION = 1
HELLO, WELCOME, INIT, LEASE_REQUEST, LEASE, GRADIENT, STATS, ACK, ERROR = range(1, 10)
WEIGHTS_GET, WEIGHTS, MIXTURE_GET, MIXTURE, PING, PONG, METRICS, STOP = range(10, 18)
APPLIED, DUPLICATE, STALE = range(3)
DENSE, ROWS, FACTORED = 1, 2, 3
FULL, DELTA = 1, 2
SPHERICAL, DIAGONAL, VMF, FULL_COVARIANCE, TIED = range(5)
DTYPES = {"F32": "<f4", "F64": "<f8", "U32": "<u4", "U64": "<u8", "U8": "|u1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class Message:
    """A received message: header fields as attributes (0, "" or {} when absent), tensors as a dict of arrays."""

    ABSENT = {"run": "", "text": "", "scalars": {}}

    def __init__(self, frames):
        self.header = msgpack.unpackb(frames[0])
        declared = self.header.get("tensors", [])
        assert self.header["version"] == VERSION and len(declared) == len(frames) - 1
        self.tensors = {name: np.frombuffer(frame, DTYPES[dtype]).reshape(shape)
                        for (name, dtype, shape), frame in zip(declared, frames[1:])}

    def __getattr__(self, key):
        return self.header.get(key, self.ABSENT.get(key, 0))


def encode(kind, tensors=None, **fields):
    """Frames of a message; tensors is a dict of arrays."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (tensors or {}).items()}
    header = {"version": VERSION, "type": kind, **fields}
    if arrays:
        header["tensors"] = [[name, NAMES[array.dtype], list(array.shape)] for name, array in arrays.items()]
    return [msgpack.packb(header)] + [array.tobytes() for array in arrays.values()]


def use_keys(socket, keys):
    """CURVE before connecting: our public and secret key and the server's public key, each 40 characters of Z85."""
    if keys:
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = keys


class Client:
    """The request door: a DEALER, one request at a time."""

    def __init__(self, endpoint, timeout_s=20, keys=None):
        self.context = zmq.Context.instance()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        use_keys(self.socket, keys)
        self.socket.connect(endpoint)
        self.timeout_s = timeout_s
        self.facts = {}  # run, config: sent with every message once WELCOME has told them

    def close(self):
        self.socket.close()

    def send_frames(self, frames):
        self.socket.send_multipart(frames)

    def receive(self, timeout_s=None):
        """The next message, or None when there is none in time."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        return Message(self.socket.recv_multipart()) if self.socket.poll(int(timeout_s * 1000)) else None

    def exchange(self, frames):
        """Sends frames and returns the answer; a WELCOME to an earlier, repeated HELLO is not it."""
        self.send_frames(frames)
        answer = self.receive()
        while answer is not None and answer.type == WELCOME:
            answer = self.receive()
        assert answer is not None, "no answer"
        return answer

    def request(self, kind, tensors=None, **fields):
        return self.exchange(encode(kind, tensors, **{**self.facts, **fields}))

    def hello(self, **scalars):
        """Says HELLO, without knowing the run, until WELCOME comes; a server that is not up yet is waited for."""
        deadline = time.monotonic() + self.timeout_s
        while time.monotonic() < deadline:
            self.send_frames(encode(HELLO, text="wire_client", scalars=scalars))
            answer = self.receive(2)
            if answer is not None and answer.type == WELCOME:
                self.facts = {"run": answer.run, "config": answer.config}
                return answer
            assert answer is None or answer.type != ERROR, answer.text
        raise TimeoutError("no WELCOME")

    def snapshot(self):
        answer = self.request(MIXTURE_GET, seq=1)
        assert answer.type == MIXTURE and answer.encoding == FULL, answer.header
        return answer


class Subscriber:
    """The publication door: a SUB."""

    def __init__(self, endpoint, topic, keys=None):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        use_keys(self.socket, keys)
        self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.socket.connect(endpoint)

    def close(self):
        self.socket.close()

    def receive(self, timeout_s):
        return Message(self.socket.recv_multipart()[1:]) if self.socket.poll(int(timeout_s * 1000)) else None


class Mixture:
    """A mixture as this client knows it, kept up to date by full and delta messages."""

    def __init__(self, welcome):
        self.K, self.D = int(welcome.scalars["components"]), int(welcome.scalars["dimensions"])
        self.covariance = int(welcome.scalars["covariance"])
        self.spread = "whitening" if self.covariance in (FULL_COVARIANCE, TIED) else "variance"
        self.parts = ("mean", self.spread, "weight", "log_const")
        self.version = None

    def apply(self, message):
        """True when the message was taken or is old; False when versions are missing: ask for a snapshot."""
        if self.version is not None and message.step <= self.version:
            return True
        if message.encoding == DELTA:
            if message.seq != self.version:
                return False
            rows = message.tensors["rows"]
            for part in self.parts:
                if self.covariance == TIED and part == "whitening":
                    self.whitening = message.tensors[part].copy()
                else:
                    getattr(self, part)[rows] = message.tensors[part]
        else:
            for part in self.parts:
                setattr(self, part, message.tensors[part].copy())
        self.price = message.tensors.get("price", np.zeros(self.K, np.float32))
        self.version, self.beta = message.step, message.scalars["beta"]
        return True

    def bytes(self):
        return b"".join(getattr(self, part).tobytes() for part in (*self.parts, "price"))

    def log_likelihoods(self, h):
        """l_ik, (N,K) in float64, without the 2 pi constant."""
        if self.covariance == VMF:
            return self.log_const + self.price + h @ (self.mean / self.variance[:, None]).astype(np.float64).T
        if self.covariance in (FULL_COVARIANCE, TIED):
            whitening = self.whitening.astype(np.float64).reshape(-1, self.D, self.D) * np.ones((self.K, 1, 1))
            y = np.einsum("kij,nkj->nki", whitening, h[:, None, :] - self.mean.astype(np.float64))
            log_det = np.log(np.diag(self.whitening)).sum() if self.covariance == TIED else 0.0
            return self.log_const + self.price + log_det - 0.5 * (y ** 2).sum(axis=2)
        variance = self.variance.astype(np.float64).reshape(self.K, -1) * np.ones(self.D)
        mean = self.mean.astype(np.float64)
        return self.log_const + self.price - 0.5 * (h ** 2) @ (1 / variance).T + h @ (mean / variance).T

    def responsibilities(self, h, top=None):
        """gamma (N,K) in float64, and the sum over h of log p(h) at beta = 1. top: keep so many, renormalise."""
        l = self.log_likelihoods(h)
        scaled = self.beta * l
        gamma = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        if top:
            gamma[gamma < np.sort(gamma, axis=1)[:, -top][:, None]] = 0
        gamma /= gamma.sum(axis=1, keepdims=True)
        peak = l.max(axis=1)
        constant = 0.0 if self.covariance == VMF else 0.5 * self.D * np.log(2 * np.pi)
        loglik = peak + np.log(np.exp(l - peak[:, None]).sum(axis=1)) - constant
        return gamma, loglik.sum()


# ---- the three encodings: arguments of Client.request ----

def _message(encoding, h, tensors, loglik, extra):
    return {"encoding": encoding, "tensors": {**tensors, **(extra or {})},
            "scalars": {"count": float(len(h)), "loglik": float(loglik), "dropped": 0.0}}


def sums(h, gamma):
    """n (K), s1 and s2 (K,D) in float32 exactly as the server would: one embedding after the other, every operation rounded."""
    h, gamma = h.astype(np.float32), gamma.astype(np.float32)
    n = np.zeros(gamma.shape[1], np.float32)
    s1 = np.zeros((gamma.shape[1], h.shape[1]), np.float32)
    s2 = np.zeros_like(s1)
    for i in range(len(h)):
        weighted = gamma[i][:, None] * h[i]
        n += gamma[i]
        s1 += weighted
        s2 += weighted * h[i]
    return n, s1, s2


def dense(h, gamma, loglik=0.0, extra=None):
    n, s1, s2 = sums(h, gamma)
    return _message(DENSE, h, {"n": n, "s1": s1, "s2": s2}, loglik, extra)


def rows(h, gamma, loglik=0.0, extra=None):
    n, s1, s2 = sums(h, gamma)
    index = np.flatnonzero(n).astype(np.uint32)
    return _message(ROWS, h, {"index": index, "n": n[index], "s1": s1[index], "s2": s2[index]}, loglik, extra)


def factored(h, gamma, loglik=0.0, extra=None):
    embedding, component = np.nonzero(gamma)
    start = np.searchsorted(embedding, np.arange(len(h) + 1)).astype(np.uint32)
    return _message(FACTORED, h, {"h": h.astype(np.float32), "start": start, "index": component.astype(np.uint32),
                                  "gamma": gamma[embedding, component].astype(np.float32)}, loglik, extra)
