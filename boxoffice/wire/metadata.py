"""A shop's own words about a booking: a few texts by name. Nobody looks for a booking by them, and no rule reads them."""

from __future__ import annotations

from typing import Final

import msgspec

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.telemetry.redaction import has_card_number
from boxoffice.texts import fault_of
from boxoffice.wire.strict import may_be_named

__all__ = ["BYTES_MAX", "KEYS_MAX", "KEY_MAX", "VALUE_MAX", "metadata_of"]

KEYS_MAX: Final = 20
KEY_MAX: Final = 40
VALUE_MAX: Final = 500
"""Characters of a name, and of a text."""

BYTES_MAX: Final = 4_096
"""Of all together, as JSON: each stands in Redis as long as its booking does."""

_json = msgspec.json.Encoder(order="sorted").encode


def metadata_of(found: dict[str, str]) -> str:
    """All of it as JSON, in the order of the names: the same words are the same text.

    Raises `Malformed`, or `CardDataRefused` for a card number in a name or a text; the pointer has the name when that is a
    plain word.
    """
    if len(found) > KEYS_MAX:
        raise Malformed(f"There are up to {KEYS_MAX} members of metadata.", pointer="/metadata", code="too_many")
    parts = [
        (f"/metadata/{name}" if may_be_named(name) else "/metadata", part, most, what)
        for name, text in found.items()
        for part, most, what in ((name, KEY_MAX, "name"), (text, VALUE_MAX, "text"))
    ]
    for pointer, part, most, what in parts:
        if fault := fault_of(part, most):
            raise Malformed(f"A {what} in the metadata {fault.what}.", pointer=pointer, code=fault.code)
    packed = _json(found)
    # Before card numbers are looked for, which costs the most.
    if len(packed) > BYTES_MAX:
        raise Malformed(f"The metadata has more than {BYTES_MAX} bytes.", pointer="/metadata", code="too_long")
    for pointer, part, _, _ in parts:
        if has_card_number(part):
            raise CardDataRefused(pointer=pointer)
    return packed.decode()
