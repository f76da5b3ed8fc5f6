"""What is wrong with a body: what msgspec found, in our words, and what it does not look for. Nothing of it is repeated."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from boxoffice.errors import Malformed

__all__ = ["in_our_words", "may_be_named", "not_json", "read_strictly", "refuse_twice", "without_mark"]

_B = TypeVar("_B", bound=Struct)

_AT: Final = re.compile(r" - at `\$([a-z_.\[\]0-9]*)`$")
_STEP: Final = re.compile(r"\.([a-z_0-9]+)|\[([0-9]{1,5})\]")
_MISSING: Final = re.compile(r"^Object missing required field `([a-z_0-9]+)`")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*?)`(?: - at `[^`]*`)?$", re.DOTALL)

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z_-]*(?:[0-9]{1,4}[A-Za-z_-]*)?")
"""Letters, and too few digits for a card number."""

_PLAIN_MAX: Final = 40


def may_be_named(name: str) -> bool:
    """Whether a name that somebody made up may be repeated to him: a plain word, and no number that it might hide."""
    return len(name) <= _PLAIN_MAX and _PLAIN.fullmatch(name) is not None


def in_our_words(finding: str) -> Malformed:
    """A decoder's finding in our words. Its own may repeat the input; a path is made of our names and positions, and of a
    member that we do not know only its name is told, if that is a plain word."""
    at = _AT.search(finding)
    pointer = _pointer_of(at[1]) if at else ""
    if missing := _MISSING.match(finding):
        return Malformed("A member is missing.", pointer=f"{pointer}/{missing[1]}", code="missing")
    if finding.startswith("Object contains unknown field"):
        unknown = _UNKNOWN.match(finding)
        if unknown and may_be_named(unknown[1]):
            pointer = f"{pointer}/{unknown[1]}"
        return Malformed("There is a member that does not belong here.", pointer=pointer, code="unknown_member")
    if finding.startswith("Expected"):
        return Malformed("This is not of the right type.", pointer=pointer, code="wrong_type")
    if "out of range" in finding:
        return Malformed("This number is out of range.", pointer=pointer, code="out_of_range")
    return Malformed(pointer=pointer)


def _pointer_of(path: str) -> str:
    """A decoder's path as a pointer. It ends before a name that the shop chose, which stands there as dots; and before what is
    none of our names: a member that we do not know may look as if it ended in a path."""
    pointer, end = "", 0
    while step := _STEP.match(path, end):
        if step[1] and not may_be_named(step[1]):
            break
        pointer, end = f"{pointer}/{step[1] or step[2]}", step.end()
    return pointer


_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and deflate begin. Brotli has no mark."""

_BYTE: Final = re.compile(r"\(byte ([0-9]+)\)")


def without_mark(raw: bytes) -> bytes:
    """A body behind its byte order mark, which some clients write and a reader may ignore (RFC 8259, 8.1); else nothing."""
    bare = raw.removeprefix(BOM_UTF8)
    return bare if len(bare) < len(raw) and not bare.startswith(BOM_UTF8) else b""


def not_json(raw: bytes, error: Exception) -> Malformed:
    """Why a body could not be read, as far as its bytes tell: never what is in it."""
    if not raw.strip():
        return Malformed("The body is empty.", code="not_json")
    if raw.startswith(_COMPRESSED):
        return Malformed("The body looks compressed: send it as plain JSON in UTF-8.", code="not_json")
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in raw[:4]:
        return Malformed("The body looks like UTF-16 or UTF-32: send it in UTF-8.", code="not_json")
    where = _BYTE.search(str(error))
    at = f" It makes no sense from byte {where[1]} on." if where else ""
    return Malformed(f"The body is not JSON in UTF-8.{at}", code="not_json")


def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`, which would keep the last of them. Raises `ValueError`."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is named twice")
    return members


def read_strictly(raw: bytes, kind: type[_B]) -> _B:
    """A whole body of this kind. Raises `Malformed`, also for a member that is named twice or unknown."""
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise in_our_words(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if bare := without_mark(raw):
            return read_strictly(bare, kind)
        raise not_json(raw, error) from None
    try:
        json.loads(raw, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError):
        raise Malformed("A member is named twice.", code="duplicate_member") from None
    return body
