"""An answer before it is sent, the same for the fast path and for FastAPI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = ["JSON", "Header", "Reply"]

Header: TypeAlias = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")


@dataclass(slots=True)
class Reply:
    """Status, body and headers, all but the length. Not to be changed: many requests may be given the same."""

    status: int
    body: bytes
    headers: list[Header]
    _lines: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def header_lines(self) -> bytes:
        """The headers as HTTP/1.1 has them, the length among them."""
        if not self._lines:
            parts = [b"%b: %b\r\n" % header for header in self.headers]
            parts.append(b"content-length: %d\r\n" % len(self.body))
            self._lines = b"".join(parts)
        return self._lines
