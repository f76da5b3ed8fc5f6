"""Bodies about who may book what others cannot, as the documentation shows them: access codes and allocations."""

from __future__ import annotations

from pydantic import Field

from api.schemas import Body, Time

__all__ = [
    "AccessCode",
    "AccessCodePage",
    "AccessCodesRequest",
    "Allocation",
    "AllocationChangeRequest",
    "AllocationRequest",
    "Allocations",
    "NewAccessCodes",
    "ReleaseRequest",
    "Revoked",
]


class AccessCodesRequest(Body):
    """Access codes to be made: `count` new ones, or those in `codes`."""

    tickets: int = Field(ge=1, description="Held and bought with each of them at a time, at most.")
    count: int | None = Field(None, ge=1, le=10_000)
    codes: list[str] | None = Field(
        None, max_length=10_000,
        description="12 letters and digits or more, each. Capitals, blanks and dashes make no difference.",
    )  # fmt: skip
    tier_id: str | None = Field(
        None, description="The only tier that they are for; null: any, one that needs a code, too."
    )
    valid_from: Time | None = Field(None, description="From when they let in, before `on_sale_at`; null: at once.")
    valid_until: Time | None = Field(None, description="Null: as long as tickets are on sale.")
    label: str | None = Field(None, description="What you call them.")


class NewAccessCode(Body):
    """A code, told once."""

    id: str
    code: str


class NewAccessCodes(Body):
    """Codes that were made."""

    data: list[NewAccessCode]


class AccessCode(Body):
    """A code, without what it reads."""

    id: str
    label: str | None
    tier_id: str | None
    tickets: int
    used: int | None = Field(description="Tickets held and bought with it now; null while nobody can say.")
    valid_from: Time | None
    valid_until: Time | None
    created_at: Time
    revoked_at: Time | None


class AccessCodePage(Body):
    """Codes of an event by `id`: ask for those after the last one."""

    data: list[AccessCode]


class Revoked(Body):
    """How many codes let in until now."""

    revoked: int


class AllocationRequest(Body):
    """Tickets to be set aside, for a shop or for a code."""

    tier_id: str
    tickets: int = Field(ge=1, description="On top of what the holder holds or has bought of the tier.")
    shop: str | None = Field(None, description="The shop that they are for: yours, or one that sells the event.")
    code_id: str | None = Field(None, description="The `id` of the access code that they are for.")


class AllocationChangeRequest(Body):
    """Another size of an allocation."""

    tickets: int = Field(ge=0)


class ReleaseRequest(Body):
    """Tickets of an allocation that everybody may book."""

    tickets: int | None = Field(description="So many; null: all, with which the allocation ends.")


class Allocation(Body):
    """Tickets of a tier that are set aside for one shop, or for one access code."""

    id: str
    tier_id: str
    shop: str | None
    code_id: str | None
    tickets: int
    used: int | None = Field(description="Of them, what the holder holds or has bought; null while nobody can say.")
    reserved: int | None = Field(description="Of them, what nobody else may take; null while nobody can say.")
    lacking: int | None = Field(
        description="So many fewer are available than are reserved of the tier, of these at most."
    )
    in_force: bool = Field(
        description="False when it was released, its code is revoked, or its shop does not sell the event: then nothing is "
        "reserved."
    )
    created_at: Time
    released_at: Time | None


class Allocations(Body):
    """What is set aside of an event, by `id`."""

    data: list[Allocation]
