"""Bodies about a hold, as the documentation shows them; see `api/schemas.py`, which has the others about bookings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas import Body, ItemRequest

__all__ = ["ChangeRequest", "ExtensionRequest", "HoldPaymentRequest"]


class HoldPaymentRequest(Body):
    """How to pay a hold. Nothing of it is needed where it costs nothing."""

    method: Literal["card"] | None = Field(None, description="Needed with a card or a token.")
    card_name: str | None = Field(None, min_length=1, max_length=200, description="Needed with a number.")
    card_number: str | None = Field(None, description="13 to 19 digits, also with blanks or dashes.")
    token: str | None = Field(None, min_length=1, max_length=255, description="Without a number.")
    expected_amount_cents: int | None = Field(
        None,
        ge=0,
        description="What your customer has seen that it costs; as in a booking. A hold may have been changed.",
    )


class ChangeRequest(Body):
    """What a hold shall have instead of what it has."""

    items: list[ItemRequest] = Field(
        min_length=1, description="All of its items, each tier once. A tier that is not named is given up."
    )
    expected_amount_cents: int | None = Field(
        None, ge=0, description="What your customer has seen that all of it costs then; as in a booking."
    )


class ExtensionRequest(Body):
    """How much longer to hold."""

    extra_s: int = Field(ge=1, description="Seconds; at most the hold's first length.")
