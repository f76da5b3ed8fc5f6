"""The doorbell's job: its name and its bytes. arq itself is known here and in `worker/` only.

A job is the dict that arq 0.28 unpacks (`arq.jobs.serialize_job`): `t` try, `f` function, `a` args, `k` kwargs,
`et` enqueue time in ms. Packed as msgpack, never pickle: who can write to Redis must not run code in a worker.
A test compares it with what arq itself would write.
"""

from __future__ import annotations

from typing import Any

import msgspec

from boxoffice.stores import keys

__all__ = ["BELL_TTL_MS", "RING", "deserialize", "job_prefix", "pack_ring", "serialize"]

RING = "ring"
"""Name of the one function that a worker runs: drain a shard's pending set."""

BELL_TTL_MS = 5_000
"""A ring that nobody answered in this time may be followed by another."""

serialize = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def deserialize(packed: bytes) -> dict[str, Any]:
    """The job as arq reads it. Its arguments come back as a list, which arq accepts."""
    return _decode(packed)  # type: ignore[no-any-return]


def pack_ring(shard: int) -> bytes:
    """The job that a script enqueues when it rings."""
    return serialize({"t": None, "f": RING, "a": [shard], "k": {}, "et": 1})


def job_prefix(shard: int) -> str:
    """What a ring's job id begins with; the script adds the number of the ring."""
    return f"{keys.shard_tag(shard)}:ring:"
