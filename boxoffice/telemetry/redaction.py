"""Finding card numbers where none may be: in a request's free texts, and in our own log lines.

A card number is known by the prefix of its issuer, its length and its check digit (ISO/IEC 7812-1), however it is written.
All three together still fit one in some ten thousand honest numbers of the same length with such a prefix; nothing in the
digits tells these apart.

One file because every way to write a number leads to the same check, and is read beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

__all__ = ["has_card_number", "is_card_number", "mask_card_numbers", "passes_luhn"]

LEAST: Final = 13
"""Digits of the shortest card number."""


class _Issuer(NamedTuple):
    first: int
    last: int
    """Prefixes of the same length, both included."""
    lengths: frozenset[int]


def _issuer(first: int, last: int, *lengths: int) -> _Issuer:
    return _Issuer(first, last, frozenset(lengths))


_ISSUERS: Final = (
    _issuer(4, 4, 13, 16, 19),  # Visa
    _issuer(51, 55, 16),  # Mastercard
    _issuer(2221, 2720, 16),
    _issuer(34, 34, 15),  # American Express
    _issuer(37, 37, 15),
    _issuer(300, 305, 14, 16, 19),  # Diners Club
    _issuer(309, 309, 14, 16, 19),
    _issuer(36, 36, 14, 16, 19),
    _issuer(38, 39, 14, 16, 19),
    _issuer(6011, 6011, 16, 17, 18, 19),  # Discover
    _issuer(644, 649, 16, 17, 18, 19),
    _issuer(65, 65, 16, 17, 18, 19),
    _issuer(3528, 3589, 16, 17, 18, 19),  # JCB
    _issuer(62, 62, 16, 17, 18, 19),  # UnionPay
    _issuer(2200, 2204, 16, 17, 18, 19),  # Mir
    _issuer(5018, 5018, *range(13, 20)),  # Maestro
    _issuer(5020, 5020, *range(13, 20)),
    _issuer(5038, 5038, *range(13, 20)),
    _issuer(5893, 5893, *range(13, 20)),
    _issuer(6304, 6304, *range(13, 20)),
    _issuer(6759, 6759, *range(13, 20)),
    _issuer(6761, 6763, *range(13, 20)),
    _issuer(5019, 5019, 16),  # Dankort
    _issuer(508, 508, 16),  # RuPay
    _issuer(60, 60, 16),
    _issuer(81, 82, 16),
    _issuer(506, 507, 16, 18, 19),  # Elo, Verve
    _issuer(509, 509, 16),
    _issuer(636, 636, 16, 17, 18, 19),  # InterPayment
    _issuer(2205, 2205, 16),  # Borica
    _issuer(9792, 9792, 16),  # Troy
    _issuer(9704, 9704, 16, 19),  # Napas
    _issuer(8600, 8600, 16),  # UzCard
    _issuer(9860, 9860, 16),  # Humo
)
"""From the list of issuer identification numbers in en.wikipedia.org/wiki/Payment_card_number. Left out: UATP, whose one
digit 1 would make every tenth number of 15 digits suspect, and which pays for flights only."""

_ALONE: Final = re.compile(r"[^0-9]*([0-9]+)[^0-9]*")
_GROUP: Final = re.compile(r"[0-9]+")
_ESCAPE: Final = re.compile(
    r"%(?:25)*([0-9A-Fa-f]{2})|\\+(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|[nrt])|&#([0-9]{1,6});|&#x([0-9A-Fa-f]{1,5});"
    r"|&[A-Za-z]{2,8};|<[A-Za-z /]{1,5}>"
)
"""A character as URLs, JSON, Python and HTML write it, `%20`; a line's end or another sign by its name. Groups are code
points, hexadecimal but for the fourth."""
_UUID: Final = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])")
_HEX: Final = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9a-f]{16,}|[0-9A-F]{16,})(?![0-9A-Fa-f])")
_HEX_GROUPS: Final = re.compile(r"(?:[0-9]{4,}[A-Fa-f])+[0-9]+")
"""Digits in groups, with one letter between two of them."""
_LETTER: Final = r"[^0-9A-Za-z]?[A-Za-z][^0-9A-Za-z]?"
_BY_LETTERS: Final = re.compile(
    rf"(?<![0-9])(?=([0-9]{{4}}{_LETTER}(?:[0-9]{{4}}{_LETTER}[0-9]{{4}}{_LETTER}[0-9]{{1,7}}|[0-9]{{6}}{_LETTER}[0-9]{{4,5}}))(?![0-9]))"
)
"""Groups with one letter between them, 4242x4242x4242x4242. A look-ahead, as one may begin inside another that is none."""

_GAP_MAX: Final = 3
"""Characters between two groups of one number: a dash with blanks around it."""

_ODD_GROUPINGS: Final = frozenset({(4, 6, 5), (4, 6, 4), (6, 13)})
"""Groups of American Express, Diners and UnionPay; others write groups of one size, and what is left over."""

_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""


def _by_prefix() -> dict[str, frozenset[int]]:
    """The first four digits of card numbers, and how long they may be."""
    found: dict[str, frozenset[int]] = {}
    for issuer in _ISSUERS:
        rest = 4 - len(str(issuer.first))
        for prefix in range(issuer.first * 10**rest, (issuer.last + 1) * 10**rest):
            found[str(prefix)] = found.get(str(prefix), frozenset()) | issuer.lengths
    return found


_LENGTHS: Final = _by_prefix()
_NO_LENGTHS: Final[frozenset[int]] = frozenset()


_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes(sum(divmod(2 * digit, 10)) for digit in range(10)))
_SINGLE: Final = bytes.maketrans(b"0123456789", bytes(range(10)))


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    number = digits.encode()
    return (sum(number[-1::-2].translate(_SINGLE)) + sum(number[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether these ASCII digits are one by prefix, length and check digit."""
    return len(digits) in _LENGTHS.get(digits[:4], _NO_LENGTHS) and passes_luhn(digits)


def has_card_number(text: str) -> bool:
    """Whether the text is a card number or has one in it: also in groups, with signs or one letter between them, glued to
    letters, in digits of another script, or with characters in it that nobody sees. Not in a hexadecimal id: of random ones
    with 32 digits, one in some thousands looks as if it had one."""
    if not _may_have(text):
        return False
    plain = _HEX.sub(_without_id, text)
    if plain is not text and not _may_have(text := plain):
        return False
    # Most ids with that many digits have them in one piece.
    if text.isascii() and (alone := _ALONE.fullmatch(text)):
        return is_card_number(alone[1])
    return next(_found(text), None) is not None


def mask_card_numbers(text: str) -> str:
    """The text with every card number but its last four digits blotted out, and what looks like one in a hexadecimal id: in a
    text that anybody may have written, nobody can tell."""
    if not _may_have(text):
        return text
    pieces, at = [], 0
    for start, end, last4 in _found(text):
        pieces += [text[at:start], f"[card {last4}]"]
        at = end
    return "".join([*pieces, text[at:]])


def _may_have(text: str) -> bool:
    """Nearly every text has fewer digits than a card number, or is a UUID."""
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text)
        return sum(map(str.isnumeric, plain)) >= LEAST and sum(_digit(each) is not None for each in plain) >= LEAST
    if len(text) < LEAST or len(text) - len(text.encode().translate(None, b"0123456789")) < LEAST:
        return False
    return not (len(text) == 36 and text[8] == "-" and _UUID.fullmatch(text))


def _without_id(found: re.Match[str]) -> str:
    """Nothing in place of a hexadecimal id: some bytes, in letters of one case. A card number with a word of such letters
    before or behind it has another length, or fewer letters; one in groups has each letter between two of them."""
    run = found[0]
    letters = len(set(run) - _DECIMAL)
    if len(run) % 4 or letters < (2 if len(run) >= 24 else 3) or (len(run) < 32 and _HEX_GROUPS.fullmatch(run)):
        return run
    return "-" * len(run)


_DECIMAL: Final = frozenset("0123456789")

_Place: TypeAlias = tuple[int, int]
"""Where a character begins and ends in the text that was given."""


def _found(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and last four digits of every card number, from left to right."""
    places = [(at, at + 1) for at in range(len(text))]
    spans = list(_spans(*((text, places) if text.isascii() else _plain(text, places))))
    if _ESCAPE.search(text):
        spans += _spans(*_plain(*_unescaped(text, places)))
    last = 0
    for start, end, digits in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= last:
            last = end
            yield start, end, digits[-4:]


def _spans(plain: str, places: Sequence[_Place]) -> Iterator[tuple[int, int, str]]:
    """Where the card numbers of a plain text stand in the text that it was made of, and their digits."""
    if "-" in plain:
        plain = _UUID.sub(lambda uuid: "-" * len(uuid[0]), plain)
    for start, end in (*_in_groups(plain), *(found.span(1) for found in _BY_LETTERS.finditer(plain))):
        digits = "".join(_GROUP.findall(plain[start:end]))
        if is_card_number(digits):
            yield places[start][0], places[end - 1][1], digits


def _unescaped(text: str, places: Sequence[_Place]) -> tuple[str, list[_Place]]:
    """The text with one character in place of each escape, and where each of its characters stood."""
    pieces, remaining, at = [], [], 0
    for found in _ESCAPE.finditer(text):
        code = next((int(each, 16) for each in found.group(1, 2, 3, 5) if each), int(found[4] or 0))
        pieces += [text[at : found.start()], chr(code) if 0x20 <= code < 0x110000 else "~"]
        remaining += [*places[at : found.start()], found.span()]
        at = found.end()
    return "".join([*pieces, text[at:]]), [*remaining, *places[at:]]


def _plain(text: str, places: Sequence[_Place]) -> tuple[str, list[_Place]]:
    """ASCII digits for those of any script, one letter for all others, nothing for what nobody sees; and where each stood."""
    plain, remaining = [], []
    for place, character in zip(places, text, strict=True):
        for each in unicodedata.normalize("NFKC", character):
            category = unicodedata.category(each)
            if category in ("Cf", "Mn", "Me") or each in _BLANK:
                continue
            if (digit := _digit(each)) is not None:
                plain.append(str(digit))
            else:
                plain.append(each if each.isascii() else "x" if category[0] == "L" else "~")
            remaining.append(place)
    return "".join(plain), remaining


def _digit(character: str) -> int | None:
    """What it counts for, in whatever script or ring it is written: as a digit, or as a numeral below ten."""
    number = unicodedata.numeric(character, -1)
    return int(number) if number in _DIGITS else None


_DIGITS: Final = frozenset(range(10))


def _in_groups(plain: str) -> Iterator[tuple[int, int]]:
    """Every card number in groups. A step for each group: a text may have
    hundreds, and only where a prefix stands is its number looked at."""
    groups = [found.span() for found in _GROUP.finditer(plain)]
    digits = "".join([plain[begin:end] for begin, end in groups])
    runs, ends = _runs(plain, groups), _ends(groups)
    before = 0
    for first, (start, stop) in enumerate(groups):
        for length in _LENGTHS.get(digits[before : before + 4], _NO_LENGTHS):
            last = ends.get(before + length)
            if last is None or runs[last] != runs[first] or not passes_luhn(digits[before : before + length]):
                continue
            if _is_grouping(tuple([end - begin for begin, end in groups[first : last + 1]])):
                yield start, groups[last][1]
        before += stop - start


def _runs(plain: str, groups: Sequence[_Place]) -> list[int]:
    """Of each group, which row of groups it stands in: a row goes on as long as the gaps are those of one number."""
    runs, run = [], 0
    for at, (begin, _) in enumerate(groups):
        run += at > 0 and not _is_gap(plain[groups[at - 1][1] : begin])
        runs.append(run)
    return runs


def _ends(groups: Sequence[_Place]) -> dict[int, int]:
    """Which group ends after so many digits of all."""
    ends, count = {}, 0
    for at, (begin, end) in enumerate(groups):
        count += end - begin
        ends[count] = at
    return ends


def _is_gap(gap: str) -> bool:
    return len(gap) <= _GAP_MAX and not any(character.isalnum() for character in gap)


def _is_grouping(sizes: tuple[int, ...]) -> bool:
    head, last = set(sizes[:-1]), sizes[-1]
    return not head or sizes in _ODD_GROUPINGS or (len(head) == 1 and max(head) <= 8 and last <= max(*head, 7))
