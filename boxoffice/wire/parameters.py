"""What a shop says beside a body: headers that matter to every booking, and texts in the query."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn, TypeAlias

import msgspec
from msgspec import Meta

from boxoffice import ids
from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.telemetry.redaction import has_card_number

__all__ = [
    "Moment",
    "bad_header",
    "bad_parameter",
    "check_content_encoding",
    "check_content_type",
    "check_parameter",
    "parse_idempotency_key",
    "parse_time",
]

KEY_MAX: Final = 255
"""Characters of an idempotency key."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def parse_idempotency_key(values: Sequence[bytes]) -> str:
    """The digest of the idempotency key: all that is ever kept of it, so nothing in it is looked for.

    It may be quoted, as the Idempotency-Key draft has it, or bare: `"a"` and `a` are the same key. Raises `Malformed`.
    """
    if not values:
        bad_header("An Idempotency-Key is needed here.", "Idempotency-Key", "missing")
    if len(values) > 1:
        bad_header("There is more than one Idempotency-Key.", "Idempotency-Key", "duplicate")
    try:
        key = values[0].decode("ascii").strip(" \t")
    except UnicodeDecodeError:
        bad_header("An Idempotency-Key is printable ASCII.", "Idempotency-Key", "not_printable")
    if key[:1] == '"':
        key = _unquoted(key)
    if not key:
        bad_header("The Idempotency-Key is empty.", "Idempotency-Key", "empty")
    if len(key) > KEY_MAX:
        bad_header(f"An Idempotency-Key has up to {KEY_MAX} characters.", "Idempotency-Key", "too_long")
    if not key.isprintable():
        bad_header("An Idempotency-Key is printable ASCII.", "Idempotency-Key", "not_printable")
    return ids.key_digest(key)


_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def _unquoted(key: str) -> str:
    """What a structured-field string says (RFC 9651)."""
    found = _QUOTED.fullmatch(key)
    if found is None:
        bad_header("The Idempotency-Key is not a quoted string.", "Idempotency-Key", "malformed")
    return re.sub(r"\\(.)", r"\1", found[1]) if "\\" in key else found[1]


_UTF8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii"))
"""Names of charsets whose texts are UTF-8."""


def check_content_type(value: bytes | None) -> None:
    """JSON in UTF-8 or nothing. What else the type has for parameters means nothing to us. Raises `Malformed`."""
    if value == b"application/json":
        return
    kind, *parameters = (value or b"").lower().split(b";")
    if kind.strip() != b"application/json":
        bad_header("The Content-Type of a body is application/json.", "Content-Type", "content_type")
    for parameter in parameters:
        name, _, charset = parameter.partition(b"=")
        if name.strip() == b"charset" and charset.strip(b" \t\"'") not in _UTF8:
            bad_header("JSON is in UTF-8: charset=utf-8, or none.", "Content-Type", "charset")


def check_content_encoding(value: bytes | None) -> None:
    """A body comes as it is. Raises `Malformed` for a compressed one."""
    if value is not None and value.strip().lower() not in (b"", b"identity"):
        bad_header("The body is compressed: send it without Content-Encoding.", "Content-Encoding", "content_encoding")


def bad_header(detail: str, header: str, code: str) -> NoReturn:
    """A header that cannot be. Raises `Malformed`."""
    error = Malformed(detail, code=code)
    error.details["errors"] = [{"header": header, "code": code}]
    raise error


def bad_parameter(detail: str, parameter: str | None, code: str) -> Malformed:
    """A parameter of the query that cannot be; None: its name is not to be repeated."""
    error = Malformed(detail, code=code)
    error.details["errors"] = [{"code": code} if parameter is None else {"parameter": parameter, "code": code}]
    return error


Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]


def parse_time(value: str, parameter: str) -> datetime:
    """A time in the query, in UTC. Raises `Malformed` for one without a zone, or that is none."""
    try:
        return msgspec.convert(value, type=Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise bad_parameter(
            "A time is written as 2030-05-22T14:00:00Z; a plus in its zone as %2B.", parameter, "time"
        ) from None


_SHOPS: Final = frozenset({"customer_id", "event_id", "reference"})


def check_parameter(value: str, parameter: str, most: int = KEY_MAX) -> None:
    """A text in the query. Raises `Malformed`, or `CardDataRefused` where a shop's own texts stand."""
    if not 1 <= len(value) <= most:
        raise bad_parameter(f"This parameter has 1 to {most} characters.", parameter, "length")
    if _CONTROL.search(value):
        raise bad_parameter("This parameter has a control character in it.", parameter, "control_character")
    if parameter in _SHOPS and has_card_number(value):
        raise CardDataRefused(parameter=parameter)
