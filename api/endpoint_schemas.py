"""Bodies about endpoints, as the documentation shows them; see `api/schemas.py`, which has those about bookings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas import Body, Time

__all__ = [
    "EndpointChangeRequest",
    "EndpointRequest",
    "NewSecret",
    "NewWebhookEndpoint",
    "Redelivered",
    "RedeliveryRequest",
    "RotationRequest",
    "WebhookDeliveries",
    "WebhookEndpoint",
    "WebhookEndpoints",
]


class EndpointRequest(Body):
    """An endpoint to be made."""

    url: str = Field(max_length=2000, description="`https://`, on the internet. Without user, password or fragment.")
    types: list[str] = Field([], description="Types of notices, as docs/notices.md lists them; none: all.")
    label: str | None = Field(None, max_length=100, description="What you call it.")
    begin: Literal["now", "start"] = Field(
        "now", description="`now`: hear of what happens from now on. `start`: of all that is kept, too."
    )


class EndpointChangeRequest(Body):
    """What is to become of an endpoint: what is left out stays."""

    url: str | None = Field(None, max_length=2000)
    types: list[str] | None = None
    label: str | None = Field(None, max_length=100)
    status: Literal["enabled", "disabled"] | None = Field(
        None, description="Once it is enabled it hears of all that happened meanwhile, as far as notices are kept."
    )


class RotationRequest(Body):
    """For how long the secret before goes on signing."""

    overlap_s: int = Field(86400, ge=0, le=604800, description="Seconds; 0: it signs no more.")


class RedeliveryRequest(Body):
    """Which deliveries are to be sent anew: one, or those first tried in a range of time."""

    notice_id: str | None = None
    since: Time | None = None
    until: Time | None = Field(None, description="Not included; left out: now.")
    status: Literal["waiting", "delivered", "given_up"] | None = Field(None, description="Only what stands so.")


class WebhookEndpoint(Body):
    """A URL of yours that notices are sent to."""

    id: str
    shop: str
    url: str
    types: list[str] = Field(description="None: all.")
    label: str | None
    status: Literal["enabled", "disabled"]
    disabled_reason: Literal["asked", "gone", "failing"] | None = Field(
        description="`gone`: it answered 410. `failing`: it took nothing for days."
    )
    disabled_at: Time | None
    failing_since: Time | None = Field(description="It has taken nothing since; null: it takes what it is sent.")
    paused_until: Time | None = Field(
        description="Nothing is sent before, as it failed or asked for it (`Retry-After`)."
    )
    delivered_at: Time | None
    waiting: int = Field(description="Deliveries that failed and are tried again.")
    created_at: Time


class NewWebhookEndpoint(WebhookEndpoint):
    """An endpoint that was just made."""

    secret: str = Field(description="Signs what is sent to it. Nobody sees it again.")


class WebhookEndpoints(Body):
    """All endpoints of your shop, oldest first."""

    data: list[WebhookEndpoint]


class NewSecret(Body):
    """The secret that signs from now on."""

    id: str
    secret: str = Field(description="Nobody sees it again.")
    before_until: Time | None = Field(description="Until then the one before signs as well; null: it does not.")


class WebhookDelivery(Body):
    """One notice that was sent to an endpoint."""

    number: int
    notice_id: str = Field(description="Its `webhook-id`.")
    type: str
    status: Literal["waiting", "delivered", "given_up"]
    tries: int
    failure: str | None = Field(description="Why the last try failed.")
    answer: int | None = Field(description="HTTP status of the last try.")
    took_ms: int
    since: Time
    tried_at: Time
    next_at: Time | None


class WebhookDeliveries(Body):
    """Deliveries, the latest first. `next_cursor` is null on the last page."""

    data: list[WebhookDelivery]
    next_cursor: str | None


class Redelivered(Body):
    """How many deliveries are sent anew; of a range the oldest 10,000."""

    redelivered: int
