"""Bodies about allocations: what is not there is named, and a body that was lost asks for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from boxoffice.errors import Malformed
from boxoffice.sales.allocations import Holder
from boxoffice.wire.allocation_requests import parse_allocation, parse_release, parse_size


@pytest.mark.parametrize(
    ("parse", "lost"), [(parse_allocation, "tier_id"), (parse_size, "tickets"), (parse_release, "tickets")]
)
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_body_that_was_lost_asks_for_nothing(parse: Callable[[bytes], Any], lost: str, body: bytes) -> None:
    """It reads as one without members: the first that it lacks is named."""
    with pytest.raises(Malformed) as refused:
        parse(body)
    assert (refused.value.detail, refused.value.pointer) == ("A member is missing.", f"/{lost}")


def test_what_is_asked_for() -> None:
    assert parse_allocation(b'{"tier_id":"t","shop":"s","tickets":5}') == ("t", Holder("s", None), 5)
    assert parse_allocation(b'{"tier_id":"t","code_id":"c","tickets":5}') == ("t", Holder(None, "c"), 5)
    assert (parse_size(b'{"tickets":7}'), parse_release(b'{"tickets":3}'), parse_release(b'{"tickets":null}')) == (
        7,
        3,
        None,
    )


@pytest.mark.parametrize("body", [b'{"tickets":"7"}', b'{"tickets":7,"all":true}', b"[]", b"7"])
@pytest.mark.parametrize("parse", [parse_size, parse_release])
def test_what_cannot_be_meant_is_refused(parse: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(body)
