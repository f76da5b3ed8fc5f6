"""The headers that matter to the hot routes, as bytes: the lane has no request object, and needs none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Self

from msgspec import Struct

from api.transport.reply import JSON, Header
from boxoffice.wire.parameters import check_content_encoding, check_content_type

__all__ = ["Headers", "api_key_of"]


class Headers(Struct, gc=False):
    """What a booking's head says."""

    authorization: bytes | None
    content_type: bytes | None
    idempotency_keys: list[bytes]
    origin: bytes | None
    content_encoding: bytes | None = None
    prefer: bytes | None = None
    if_none_match: bytes | None = None
    """ETags of what the client has; those of several lines, separated by commas."""

    @classmethod
    def of(cls, headers: Iterable[Header]) -> Self:
        """Pick them out of a request's list of headers."""
        authorization = content_type = origin = content_encoding = prefer = if_none_match = None
        idempotency_keys: list[bytes] = []
        for name, value in headers:
            if name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
            elif name == b"idempotency-key":
                idempotency_keys.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"content-encoding":
                content_encoding = value
            elif name == b"prefer":
                prefer = value if prefer is None else b"%b, %b" % (prefer, value)
            elif name == b"if-none-match":
                if_none_match = value if if_none_match is None else b"%b,%b" % (if_none_match, value)
        return cls(authorization, content_type, idempotency_keys, origin, content_encoding, prefer, if_none_match)

    @classmethod
    def of_distinct(cls, by_name: Mapping[bytes, bytes]) -> Self:
        """As `of`, from a dictionary: only for a head in which no name stands twice."""
        get = by_name.get
        key = get(b"idempotency-key")
        keys = [] if key is None else [key]
        return cls(
            get(b"authorization"), get(b"content-type"), keys, get(b"origin"), get(b"content-encoding"),
            get(b"prefer"), get(b"if-none-match"),
        )  # fmt: skip

    def has(self, tag: bytes) -> bool:
        """Whether the client has what this `ETag` names (RFC 9110, 13.1.2): a proxy may have weakened it."""
        known = self.if_none_match
        return known is not None and (
            known == tag
            or known == b"*"
            or tag in [each.strip(b" \t").removeprefix(b"W/") for each in known.split(b",")]
        )

    def check_body(self) -> None:
        """What the headers say of the body. Raises `Malformed`."""
        if self.content_type != JSON[1]:
            check_content_type(self.content_type)
        if self.content_encoding is not None:
            check_content_encoding(self.content_encoding)


@lru_cache(256)
def api_key_of(authorization: bytes | None) -> str | None:
    """The API key in an Authorization header, if there is one."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip().decode("latin-1")
