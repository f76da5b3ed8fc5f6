"""The feed as the documentation shows it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.schemas import Body, Time
from boxoffice.notices.types import NOTICE_TYPES

__all__ = ["FeedPage", "Notice"]

NoticeType = Annotated[str, Field(json_schema_extra={"enum": list(NOTICE_TYPES)})]


class Notice(Body):
    """One change of one thing."""

    id: str = Field(
        description="Of this notice alone, and the same whenever and however it is told: drop what you have seen."
    )
    type: NoticeType
    timestamp: Time = Field(description="When it happened.")
    event_id: str | None = Field(description="Null of what is about no event.")
    booking_id: str | None = Field(description="Null of what is about no booking.")
    data: dict[str, Any] = Field(
        description="Status, codes, amounts in minor units, and ids, by type: docs/notices.md."
    )
    cursor: str = Field(description="To go on behind this notice.")


class FeedPage(Body):
    """Some notices, oldest first."""

    data: list[Notice]
    cursor: str = Field(description="To go on behind this page, also when it is empty.")
    more: bool = Field(description="Others are there already.")
