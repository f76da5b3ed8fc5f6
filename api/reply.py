"""An answer before it is sent, the same for the fast path and for FastAPI."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = ["JSON", "Header", "Reply"]

Header: TypeAlias = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """Status, body and headers, all but the length."""

    status: int
    body: bytes
    headers: list[Header]
