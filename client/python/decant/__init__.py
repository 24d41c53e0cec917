"""Prototypes from a Decant prototype server, for a training loop of your own.

    decant serve-mixture --components 1024 --dimensions 128          # in a shell

    from decant import PrototypeClient
    client = PrototypeClient("tcp://127.0.0.1:5711")
    client.submit(embeddings)          # (N, 128), numpy or torch: statistics go out, nothing is waited for
    client.prototypes()                # (1024, 128), unit rows, of the newest version

`decant.torch` has an nn.Module whose buffer follows the versions, and losses on it.
"""
from .client import Expired, PrototypeClient, Refused
from .estep import expectation
from .keys import Keys
from .mixture import Mixture
from .statistics import Statistics

__all__ = ["Expired", "Keys", "Mixture", "PrototypeClient", "Refused", "Statistics", "expectation"]
