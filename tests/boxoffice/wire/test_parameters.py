"""What a shop says beside a body: how a refusal of it is told, to the shop and to whoever logs it."""

from __future__ import annotations

import pytest

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.wire.parameters import bad_header, bad_parameter, check_parameter


@pytest.mark.parametrize("kind", ["header", "parameter"])
def test_what_is_wrong_is_told_by_its_name_and_code(kind: str) -> None:
    """It stands in no body: so no pointer leads there."""
    with pytest.raises(Malformed) as refused:
        if kind == "header":
            bad_header("No.", "X-Name", "empty")
        raise bad_parameter("No.", "X-Name", "empty")
    error = refused.value
    assert (error.detail, error.code, error.pointer) == ("No.", "empty", "")
    assert error.details == {"errors": [{kind: "X-Name", "code": "empty"}]}


@pytest.mark.parametrize(
    ("value", "code"),
    [("", "length"), ("x" * 256, "length"), ("a\x7fb", "control_character"), ("\x85", "control_character")],
)
def test_a_parameter_that_cannot_be(value: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        check_parameter(value, "reference")
    assert refused.value.details == {"errors": [{"parameter": "reference", "code": code}]}


@pytest.mark.parametrize(("value", "most"), [("x", 255), ("x" * 255, 255), ("x" * 7, 7), ("ä ö", 255)])
def test_a_parameter_that_can(value: str, most: int) -> None:
    check_parameter(value, "reference", most)


@pytest.mark.parametrize(
    ("parameter", "refused"),
    [("customer_id", True), ("event_id", True), ("reference", True), ("idempotency_key", False)],
)
def test_no_card_number_where_a_shops_own_texts_stand(parameter: str, refused: bool) -> None:
    if not refused:
        check_parameter("4242424242424242", parameter)
        return
    with pytest.raises(CardDataRefused) as error:
        check_parameter("4242424242424242", parameter)
    assert error.value.details == {"errors": [{"parameter": parameter, "code": "card_data"}]}
