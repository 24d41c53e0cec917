"""CURVE keys of a run over the network (docs/PROTOCOL.md, section 2; `decant keygen` makes them)."""
from __future__ import annotations

import dataclasses
import pathlib

import zmq


@dataclasses.dataclass(frozen=True)
class Keys:
    """Our pair and the server's public key, each 40 characters of Z85."""

    public: str
    secret: str
    server: str

    @classmethod
    def read(cls, directory: str, name: str = "client") -> "Keys":
        """NAME.pub, NAME.key and prototype.pub of a directory of keys."""
        texts = [(pathlib.Path(directory) / file).read_text("ascii").strip()
                 for file in (f"{name}.pub", f"{name}.key", "prototype.pub")]
        for text in texts:
            if len(text) != 40:
                raise ValueError(f"{directory}: a key has 40 characters, not {len(text)}")
        return cls(*texts)

    def use(self, socket: zmq.Socket) -> None:
        """To be called before the socket connects."""
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()
        socket.curve_serverkey = self.server.encode()
