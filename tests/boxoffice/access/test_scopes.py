"""What a key may be used for, and by which pages."""

from __future__ import annotations

import pytest

from boxoffice.access.scopes import SCOPES, USUAL, Caller, check_origin
from boxoffice.errors import Forbidden, Malformed

A, B = b"https://a.example", b"https://b.example"


def test_a_shop_does_everything_but_what_operators_do() -> None:
    assert set(SCOPES) - set(USUAL) == {"ops"}


@pytest.mark.parametrize("has", SCOPES)
@pytest.mark.parametrize("asks", SCOPES)
def test_no_scope_includes_another(has: str, asks: str) -> None:
    caller = Caller("client", frozenset({has}))
    if has == asks:
        caller.check(asks, None)
        return
    with pytest.raises(Forbidden) as refused:
        caller.check(asks, None)
    assert refused.value.details == {"scope": asks}


@pytest.mark.parametrize(
    ("origins", "origin", "good"),
    [
        ((), None, True), ((), A, True), ((A,), None, True), ((A,), A, True), ((A,), B, False), ((A, B), B, True),
        ((b"*",), A, True), ((A,), b"", False), ((A,), b"null", False), ((A,), b"https://A.example", False),
    ],
)  # fmt: skip
def test_a_page_uses_the_keys_that_are_for_it(origins: tuple[bytes, ...], origin: bytes | None, good: bool) -> None:
    """A key without origins knows no pages: what they may do is a matter of the settings."""
    caller = Caller("client", frozenset({"browse"}), frozenset(origins))
    if good:
        caller.check("browse", origin)
        return
    with pytest.raises(Forbidden) as refused:
        caller.check("browse", origin)
    assert refused.value.details == {"reason": "origin"}


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        ("*", True), ("https://shop.example", True), ("http://localhost:3000", True), ("https://127.0.0.1:8443", True),
        ("https://[::1]:8443", True), ("https://a-b.shop.example", True), ("http://shop.example:443", True),
        ("https://shop.example:65535", True), ("https://shop.example:65536", False), ("https://shop.example:443", False),
        ("http://shop.example:80", False), ("https://shop.example:0", False), ("https://shop.example/", False),
        ("https://Shop.example", False), ("HTTPS://shop.example", False), ("shop.example", False),
        ("ftp://shop.example", False), ("https://*.shop.example", False), ("https://", False), ("null", False),
        ("https://a.example b", False), ("https://a.example\n", False), ("https://-a.example", False), ("", False),
        ("https://me@a.example", False),
    ],
)  # fmt: skip
def test_an_origin_is_written_as_browsers_write_it(origin: str, good: bool) -> None:
    """Anything else would never match, and the page would be refused without anybody knowing why."""
    if good:
        check_origin(origin)
        return
    with pytest.raises(Malformed):
        check_origin(origin)
