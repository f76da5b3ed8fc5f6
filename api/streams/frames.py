"""How messages of a stream are written (HTML Living Standard, 9.2.6): made once, the same bytes for whoever reads the
stream."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["ALIVE", "END", "frame", "id_of", "retry"]

ALIVE: Final = b":\n\n"
"""A comment: it says that we are there, and keeps proxies from hanging up."""

END: Final = b": closed\n\n"
"""The last that a reader gets of a stream that we close."""


def id_of(state: bytes) -> bytes:
    """The id of a message that says this: the same in every process, so that a reader that comes back with it, wherever, is
    sent what is new and nothing else."""
    return hashlib.blake2b(state, digest_size=9).hexdigest().encode()


def frame(event: bytes, name: bytes, data: bytes) -> bytes:
    """One message; `data` has no end of a line in it."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (name, event, data)


def retry(ms: int) -> bytes:
    """After how long a reader that lost us comes back."""
    return b"retry: %d\n\n" % ms
