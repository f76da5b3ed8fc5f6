"""Texts that people give: names, references, ids. Any script is welcome; what cannot be stored or seen is not."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

__all__ = ["Fault", "fault_of", "is_storable"]

_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\u17b4\u17b5")
"""Letters and signs that show nothing: Hangul fillers, the empty Braille cell, Khmer's inherent vowels."""

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Me", "Mn", "Zl", "Zp", "Zs"})
"""Categories of characters that show nothing by themselves."""


class Fault(NamedTuple):
    """What is wrong with a text: a code of docs/errors.md, and a sentence that goes on after "This" or the field's name."""

    code: str
    what: str


def fault_of(text: str, most: int) -> Fault | None:
    """The first thing that is wrong; None for nearly all. Nothing of the text is repeated but one character's number."""
    if not text or text.isspace():
        return Fault("empty", "must not be empty")
    if len(text) > most:
        return Fault("too_long", f"has more than {most} characters")
    if text.isascii() and text.isprintable():
        return None
    for place, character in enumerate(text, 1):
        if not _may_stand(character):
            return Fault("control_character", f"has U+{ord(character):04X} as character {place}, which cannot be used")
    if not any(unicodedata.category(each) not in _UNSEEN and each not in _BLANK for each in text):
        return Fault("invisible", f"shows nothing: it has only characters like U+{ord(text[0]):04X}")
    return None


def is_storable(text: str) -> bool:
    """Whether every character of it may stand in a text."""
    return all(map(_may_stand, text))


def _may_stand(character: str) -> bool:
    """Not control characters, surrogates, separators of lines, or what is no character. Joiners, marks, directions and
    blanks of any width are how names are written."""
    category = unicodedata.category(character)
    return (
        category not in ("Cc", "Cs", "Zl", "Zp")
        and ord(character) & 0xFFFE != 0xFFFE
        and not (0xFDD0 <= ord(character) <= 0xFDEF)
    )
