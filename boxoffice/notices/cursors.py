"""Places in the feed: how far somebody has read."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from boxoffice.errors import Malformed

__all__ = ["ALL_READ", "Cursor"]

ALL_READ: Final = 2**31 - 1
"""Within a row: all of it."""

_TEXT: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f]{1,8})(?:\.([0-9]{1,9}))?")


class Cursor(NamedTuple):
    """How far a shop has read. To the shop it is a text that tells nothing."""

    position: int
    """Of the last row that was read, wholly or in part; 0 before the first."""
    nonce: int
    """Drawn when the place was given: another line of history comes to the same position, and never to the same nonce."""
    within: int = ALL_READ
    """How many of the row's changes were read."""

    def __str__(self) -> str:
        part = "" if self.within == ALL_READ else f".{self.within}"
        return f"{self.position}.{self.nonce:x}{part}"

    @classmethod
    def read(cls, text: str, pointer: str = "/after") -> Cursor:
        """The cursor that was given out as this text. Raises `Malformed` for any other."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise Malformed("This is no cursor of ours.", pointer=pointer, code="cursor")
        position, nonce, within = found.groups()
        return cls(int(position), int(nonce, 16), ALL_READ if within is None else int(within))
