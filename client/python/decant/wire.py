"""Messages of Decant's protocol: one MessagePack map, then a raw frame for each tensor (docs/PROTOCOL.md, section 3)."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import msgpack
import numpy as np

VERSION = 1
HELLO, WELCOME, STATS, ACK, ERROR = 1, 2, 7, 8, 9
MIXTURE_GET, MIXTURE, PING, PONG = 12, 13, 14, 15
DURABLE = 3  # code of an ACK
DENSE, ROWS, FACTORED = 1, 2, 3  # encodings of STATS
DELTA = 2  # encoding of MIXTURE
WRONG_GENERATION, FUTURE_STEP, NOT_READY, UNKNOWN_VERSION, STOPPING, EXPIRED = 8, 17, 18, 19, 21, 23  # codes of an ERROR
REASONS = ("", "bad_header", "bad_version", "bad_type", "wrong_door", "wrong_run", "wrong_config", "wrong_shard", "wrong_generation",
           "bad_field", "bad_shape", "bad_dtype", "bad_encoding", "bad_value", "non_finite", "out_of_range", "too_large", "future_step",
           "not_ready", "unknown_version", "overlap", "stopping", "forbidden", "expired")

_DTYPES = {"F32": "<f4", "F64": "<f8", "U32": "<u4", "U64": "<u8", "U8": "|u1"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class Malformed(ValueError):
    """What has come is no message of this protocol."""


class Message:
    """A received message. Fields that are absent read as 0, "" or {}."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        try:
            self.header: dict[str, Any] = msgpack.unpackb(frames[0])
            declared = self.header.get("tensors", [])
            if self.header["version"] != VERSION or len(declared) != len(frames) - 1:
                raise Malformed("another protocol version, or frames are missing")
            self.tensors: dict[str, np.ndarray] = {
                name: np.frombuffer(frame, _DTYPES[dtype]).reshape(shape)
                for (name, dtype, shape), frame in zip(declared, frames[1:])}
        except (KeyError, TypeError, ValueError, IndexError, msgpack.exceptions.UnpackException) as error:
            raise Malformed(str(error)) from error

    def number(self, key: str) -> int:
        return int(self.header.get(key, 0))

    def text(self, key: str) -> str:
        return str(self.header.get(key, ""))

    def scalar(self, name: str, otherwise: float = 0.0) -> float:
        return float(self.header.get("scalars", {}).get(name, otherwise))


def encode(kind: int, tensors: Mapping[str, np.ndarray] | None = None, **fields: Any) -> list[bytes]:
    """Frames of a message."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (tensors or {}).items()}
    header = {"version": VERSION, "type": kind, **fields}
    if arrays:
        header["tensors"] = [[name, _NAMES[array.dtype], list(array.shape)] for name, array in arrays.items()]
    return [msgpack.packb(header)] + [array.tobytes() for array in arrays.values()]
