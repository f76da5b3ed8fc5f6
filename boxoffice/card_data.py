"""Finding card numbers where none may be: in a request's free texts, and in our own log lines."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from boxoffice.gateway.cards import passes_luhn

__all__ = ["has_card_number", "mask_card_numbers"]

_LONG: Final = re.compile(r"[0-9][0-9 .-]{12}")
"""13 characters that may be most of a card number. Nearly every text stops here."""

_GROUPED: Final = re.compile(
    r"(?<![0-9A-Za-z.-])[2-6][0-9]{3}"
    r"(?:([ .-]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|([ .-])[0-9]{6}\2[0-9]{5})"
    r"(?![0-9A-Za-z-])"
)
"""A card number inside a longer text, in fours or as 4-6-5. A UUID or a number of an order is none: those have letters
or dashes next to their digits."""

_SEPARATORS: Final = str.maketrans("", "", " .-")


def has_card_number(text: str) -> bool:
    """Whether the text is a card number (13 to 19 digits that pass the Luhn check, also with spaces, dots or dashes),
    or has one in it."""
    if len(text) < 13:
        return False
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if _LONG.search(text) is None:
        return False
    return _is_card_number(text) or any(_is_card_number(found[0]) for found in _GROUPED.finditer(text))


def mask_card_numbers(text: str) -> str:
    """The text with every card number but its last four digits blotted out."""
    if len(text) < 13 or _LONG.search(text) is None:
        return text
    if _is_card_number(text):
        return f"[card {text[-4:]}]"
    return _GROUPED.sub(lambda found: f"[card {found[0][-4:]}]" if _is_card_number(found[0]) else found[0], text)


def _is_card_number(text: str) -> bool:
    digits = text.translate(_SEPARATORS)
    return 13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit() and passes_luhn(digits)
