"""The client of a stream (docs/PROTOCOL.md, section 12).

One thread of its own owns the sockets. `submit` makes the statistics in the caller's thread, numbers them, and hands them over; they
are kept until the server says that they are in a checkpoint, and sent again after any trouble, so that each counts exactly once while
this process lives. When the server grants no more credit, `submit` waits: that is the back-pressure.
"""
from __future__ import annotations

import collections
import logging
import os
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import zmq

from . import wire
from .estep import expectation
from .keys import Keys
from .mixture import COVARIANCES, Mixture
from .statistics import Statistics
from .wire import Message

log = logging.getLogger("decant")

HELLO_S = 1.0  # between greetings of a server that does not answer
PING_S = 1.0
POLL_S = 0.1  # between looks for a new version, where there is no publication
SILENCE_S = 4.0  # without an answer: greet it again, and send again
SNAPSHOT_S = 1.0  # before a snapshot is asked for again
AGAIN_S = 0.2  # before what was refused is sent again


class Refused(RuntimeError):
    """The server does not take what this client sends; the client is of no use any more."""


class Expired(Refused):
    """The server has forgotten this client: what was submitted and not durable may be in the mixture or not."""


def publications_of(address: str) -> str | None:
    """Where a server at that address publishes, if it was not told otherwise: on the next port."""
    head, _, port = address.rpartition(":")
    return f"{head}:{int(port) + 1}" if address.startswith("tcp://") and port.isdigit() else None


class _Contribution(NamedTuple):
    """What is kept of statistics until they are durable."""

    encoding: int
    tensors: dict[str, np.ndarray]
    scalars: dict[str, float]
    version: int  # of the mixture that they were made with


class _Follower:
    """The newest version, put together when somebody wants it: deltas are only kept until then."""

    DELTAS_MAX = 64

    def __init__(self) -> None:
        self.covariance = ""  # of all versions; the server's WELCOME says it
        self.base: Mixture | None = None
        self.deltas: list[Message] = []

    @property
    def version(self) -> int:
        if self.deltas:
            return self.deltas[-1].number("step")
        return self.base.version if self.base else -1

    @property
    def generation(self) -> int:
        return self.base.generation if self.base else 0

    def apply(self, m: Message) -> bool:
        """False when versions are missing before it: a snapshot is needed."""
        generation, version = m.number("generation"), m.number("step")
        if generation < self.generation or (generation == self.generation and version <= self.version):
            return True
        if m.number("encoding") != wire.DELTA:
            self.base, self.deltas = Mixture.full(m, self.covariance), []
            return True
        if generation != self.generation or m.number("seq") != self.version:
            return False
        self.deltas.append(m)
        if len(self.deltas) > self.DELTAS_MAX:
            self.newest()
        return True

    def newest(self) -> Mixture | None:
        if self.base and self.deltas:
            self.base, self.deltas = self.base.following(self.deltas), []
        return self.base


class PrototypeClient:
    """Sends statistics to a prototype server in stream mode, and follows its mixture.

    address     net.prototype of the server, tcp://HOST:PORT or ipc://PATH
    run         its run, "" to take whichever it serves
    publish     net.prototype_publish; by default the next port. Without one (ipc) versions are asked for
    keys        of a server with keys
    drop, top   of the E-step, see `expectation`
    timeout     seconds to wait for the server at the start; it may come later, too, if 0

    Safe to use from several threads. Close it, or use it in a `with`.
    """

    def __init__(self, address: str, run: str = "", *, publish: str | None = None, keys: Keys | None = None, drop: float = 1e-6,
                 top: int = 0, timeout: float = 20.0) -> None:
        self.drop, self.top = drop, top
        self._address, self._publish, self._keys = address, publish or publications_of(address), keys
        self._changed = threading.Condition()
        # What follows is guarded by _changed.
        self._follower = _Follower()
        self._run, self._config, self._generation, self._name = run, 0, 0, 0
        self._rows_max, self._farthest = 0, True
        self._kept: collections.OrderedDict[int, _Contribution] = collections.OrderedDict()
        self._submitted = 0  # contributions so far
        self._next = 1  # to be sent
        self._applied = self._durable = self._credit = 0  # as the server last said
        self._failure: Exception | None = None
        self._closing = False
        self.resent = 0  # contributions that were sent more than once
        # Of the thread.
        self._greeted = False
        self._heard_s = self._hello_s = self._ping_s = self._snapshot_s = self._again_s = 0.0
        self._highest_sent = 0
        self._ping_number, self._ping_next = 0, 1
        self._wanted_version = -1
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._serve, name="decant", daemon=True)
        self._wake()  # the greeting does not wait
        self._thread.start()
        if timeout > 0:
            try:
                self.wait_version(0, timeout)
            except BaseException:
                self.close(0.0)
                raise

    # ---- for the caller ----

    def submit(self, embeddings: Any, timeout: float | None = None) -> int:
        """Sends the statistics of embeddings (N, D), numpy or torch, under the newest version; the number of its last contribution.

        Returns when they are on their way, not when they have arrived. Waits, for `timeout` seconds at most (TimeoutError), while the
        server cannot take more. Many embeddings become several contributions."""
        with self._changed:
            self._wait(lambda: self._follower.base is not None, timeout, "a first version of the mixture")
            mixture, rows, farthest = self._follower.newest(), self._rows_max, self._farthest
        assert mixture is not None
        number = 0
        for first in range(0, len(embeddings), rows):
            statistics = expectation(embeddings[first:first + rows], mixture, self.drop, self.top, farthest)
            number = self.submit_statistics(statistics, mixture.version, timeout)
        return number

    def submit_statistics(self, statistics: Statistics, version: int = 0, timeout: float | None = None) -> int:
        """The same with statistics that were made already, under that version."""
        contribution = _Contribution(*statistics.message(), statistics.scalars(), version)
        with self._changed:
            self._wait(lambda: self._submitted < self._credit, timeout, "credit: the server is behind, or away")
            self._submitted = number = self._submitted + 1
            self._kept[number] = contribution
        self._wake()
        return number

    def mixture(self) -> Mixture:
        """The newest version."""
        with self._changed:
            self._wait(lambda: self._follower.base is not None, 0, "a first version of the mixture")
            newest = self._follower.newest()
        assert newest is not None
        return newest

    def prototypes(self) -> np.ndarray:
        """The prototypes (K, D) of the newest version, unit rows; not to be written to."""
        return self.mixture().prototypes

    @property
    def version(self) -> int:
        """The newest version that is here; -1 before the first. Versions of a server that was restarted may be fewer."""
        with self._changed:
            return self._follower.version

    @property
    def applied(self) -> int:
        """Contributions of ours that are in the mixture, or in the sum that makes its next version."""
        with self._changed:
            return self._applied

    @property
    def durable(self) -> int:
        """Those that are in a checkpoint; the others are kept here."""
        with self._changed:
            return self._durable

    def wait_version(self, version: int, timeout: float | None = None) -> int:
        """Waits until that version or a newer one has come; which is the newest."""
        with self._changed:
            self._wait(lambda: self._follower.version >= version, timeout, f"version {version} of the mixture")
            return self._follower.version

    def wait_newer(self, generation: int, version: int, timeout: float | None = None) -> Mixture:
        """Waits for another version than this one of that life of the server, and returns it. After a restart of the server the
        number may be smaller."""
        with self._changed:
            self._wait(lambda: (self._follower.generation, self._follower.version) > (generation, version), timeout,
                       "a newer version of the mixture")
            newest = self._follower.newest()
        assert newest is not None
        return newest

    def flush(self, timeout: float | None = None, durable: bool = False) -> None:
        """Waits until everything that was submitted is applied, or durable."""
        with self._changed:
            self._wait(lambda: (self._durable if durable else self._applied) >= self._submitted, timeout,
                       "contributions to become durable" if durable else "contributions to be applied")

    def close(self, timeout: float = 20.0, durable: bool = False) -> None:
        """Flushes, for so long at most, and lets go of the server. What is not durable then depends on the server alone.

        Does not raise when time is over or the server has refused this client: look at `applied`."""
        try:
            self.flush(timeout, durable)
        except Exception as error:  # the thread must end whatever was wrong
            if self._applied < self._submitted:
                log.warning("closing with %d contributions not known to be applied: %s", self._submitted - self._applied, error)
        with self._changed:
            self._closing = True
        self._wake()
        self._thread.join()
        if self._wake_write >= 0:
            os.close(self._wake_write)
            self._wake_write = -1

    def __enter__(self) -> "PrototypeClient":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(20.0 if kind is None else 0.0)

    def _wait(self, condition: Any, timeout: float | None, what: str) -> None:
        """With the lock held."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            if self._failure is not None:
                raise self._failure
            if self._closing:
                raise Refused("the client is closed")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"{self._address}: waited {timeout:g} s in vain for {what}")
            self._changed.wait(left)
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass  # it is awake, or has ended

    # ---- the thread ----

    def _socket(self, context: zmq.Context, kind: int, address: str) -> zmq.Socket:
        socket = context.socket(kind)
        socket.linger = 500
        if self._keys is not None:
            self._keys.use(socket)
        if kind == zmq.SUB:
            socket.subscribe(b"mixture")
        socket.connect(address)
        return socket

    def _serve(self) -> None:
        context = zmq.Context()
        sockets = []
        try:
            self._requests = self._socket(context, zmq.DEALER, self._address)
            sockets.append(self._requests)
            if self._publish:
                sockets.append(self._socket(context, zmq.SUB, self._publish))
            poller = zmq.Poller()
            for socket in (*sockets, self._wake_read):
                poller.register(socket, zmq.POLLIN)
            while not self._closing and self._failure is None:
                self._turn(poller, sockets)
            if self._failure is None and self._name:
                self._goodbye()
        except Exception as error:  # whoever waits should hear of it
            self._fail(error)
        finally:
            for socket in sockets:
                socket.close()
            context.term()
            os.close(self._wake_read)

    def _turn(self, poller: zmq.Poller, sockets: list[zmq.Socket]) -> None:
        ready = dict(poller.poll(int(1000 * (PING_S / 4 if self._publish else POLL_S))))
        if ready.get(self._wake_read):
            os.read(self._wake_read, 4096)
        with self._changed:
            for socket in sockets:
                while socket.poll(0):
                    frames = socket.recv_multipart()
                    self._on_message(Message(frames[1:] if socket.socket_type == zmq.SUB else frames))
            self._keep_up(time.monotonic())
            self._changed.notify_all()

    def _send(self, kind: int, tensors: Any = None, **fields: Any) -> None:
        try:
            self._requests.send_multipart(wire.encode(kind, tensors, run=self._run, **fields), zmq.DONTWAIT)
        except zmq.Again:
            pass  # a thousand wait for a server that is away: as if it were lost on the way, and mended likewise

    def _send_contribution(self, number: int) -> None:
        c = self._kept[number]
        self._send(wire.STATS, c.tensors, encoding=c.encoding, scalars=c.scalars, worker=self._name, seq=number, step=c.version)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _goodbye(self) -> None:
        if self._durable >= self._submitted:
            self._send(wire.PING, worker=self._name, code=1)

    # What is due by time, and what may be sent.
    def _keep_up(self, now: float) -> None:
        if self._greeted and now - self._heard_s > SILENCE_S:
            self._greeted = False
        if not self._greeted:
            if now - self._hello_s >= HELLO_S:
                self._hello_s = now
                self._send(wire.HELLO, worker=self._name, seq=self._durable, text=f"python:{os.getpid()}")
            return
        if now - self._ping_s >= (PING_S if self._publish else POLL_S):
            self._ping_s = now
            self._ping_number += 1
            self._ping_next = self._next
            self._send(wire.PING, worker=self._name, seq=self._ping_number)
        if self._follower.version < self._wanted_version or self._follower.generation < self._generation:
            if now - self._snapshot_s >= SNAPSHOT_S:
                self._snapshot_s = now
                self._send(wire.MIXTURE_GET, seq=1)
        while now >= self._again_s and self._next <= min(self._credit, self._submitted):
            self.resent += self._next <= self._highest_sent
            self._highest_sent = max(self._highest_sent, self._next)
            self._send_contribution(self._next)
            self._next += 1

    def _on_message(self, m: Message) -> None:
        kind, generation = m.number("type"), m.number("generation")
        if generation < self._generation:
            return  # of a server that is no more
        if kind == wire.MIXTURE:
            self._on_mixture(m)
            return
        self._heard_s = time.monotonic()
        if kind == wire.WELCOME:
            self._on_welcome(m)
        elif generation > self._generation > 0:
            self._greeted = False  # it was restarted: say hello, and send again what it may have lost
        elif kind == wire.ERROR:
            self._on_error(m)
        elif kind == wire.ACK:
            self._take_standing(m)
        elif kind == wire.PONG:
            self._on_pong(m)

    def _on_mixture(self, m: Message) -> None:
        if m.number("generation") == self._generation:  # none before WELCOME has told what they are made of
            if not self._follower.apply(m):
                self._wanted_version = m.number("step")
            elif m.number("encoding") != wire.DELTA:
                self._snapshot_s = 0.0  # answered: the next one may be asked for at once

    def _on_welcome(self, m: Message) -> None:
        if m.scalar("mode") != 1:
            self._fail(Refused(f"{self._address}: this server trains by steps; start one with decant serve-mixture"))
            return
        covariance = int(m.scalar("covariance"))
        if covariance >= len(COVARIANCES):
            self._fail(Refused(f"{self._address}: covariance {covariance} is not known here; this client is older than the server"))
            return
        if self._name and m.number("worker") != self._name:
            return  # to a greeting that was repeated before we had a name
        self._run = self._run or m.text("run")
        self._follower.covariance = COVARIANCES[covariance]
        self._rows_max, self._farthest = int(m.scalar("rows_max")), m.scalar("reseed_choice") == 0
        self._name = self._name or m.number("worker")
        if m.number("generation") > self._generation:
            self._applied = 0  # it may have gone back; standing says how far
        self._generation, self._greeted = m.number("generation"), True
        self._wanted_version = m.number("step")
        self._take_standing(m)
        self._next = max(self._applied, self._durable) + 1
        self._again_s = 0.0

    def _take_standing(self, m: Message) -> None:
        self._applied = max(self._applied, int(m.scalar("applied")))
        self._durable = max(self._durable, int(m.scalar("durable")))
        self._credit = int(m.scalar("credit", self._credit))
        while self._kept and next(iter(self._kept)) <= self._durable:
            self._kept.popitem(last=False)
        self._next = max(self._next, self._durable + 1)

    def _on_pong(self, m: Message) -> None:
        self._wanted_version = max(self._wanted_version, m.number("step"))
        self._take_standing(m)
        # What was sent before the PING and is not applied was lost with a connection.
        if m.number("seq") == self._ping_number and self._applied + 1 < self._ping_next:
            self._next = self._applied + 1

    def _on_error(self, m: Message) -> None:
        code, now = m.number("code"), time.monotonic()
        if code in (wire.WRONG_GENERATION, wire.STOPPING):
            self._greeted = False
            self._hello_s = now
        elif code in (wire.FUTURE_STEP, wire.NOT_READY):
            self._take_standing(m)
            self._next = max(self._applied, self._durable) + 1
            self._again_s = now + AGAIN_S
        elif code == wire.EXPIRED and self._applied == 0 and self._highest_sent == 0:
            self._name, self._greeted = 0, False  # it has never been used: another will do
        elif code == wire.EXPIRED:
            self._fail(Expired(f"{self._address}: {m.text('text')}"))
        elif code != wire.UNKNOWN_VERSION:
            reason = wire.REASONS[code] if code < len(wire.REASONS) else str(code)
            self._fail(Refused(f"{self._address}: {reason}: {m.text('text')}"))
