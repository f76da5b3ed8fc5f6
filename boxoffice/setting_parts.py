"""The settings of each part of the product, as `Settings` holds them.

One file because it is one list, which is longer than others by the reason that stands under each number.
"""

from __future__ import annotations

import re
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from boxoffice.rate_settings import Part

__all__ = [
    "SIMULATOR_SECRET",
    "ApiSettings",
    "GatewaySettings",
    "HoldSettings",
    "LimitSettings",
    "WorkerSettings",
]

SIMULATOR_SECRET: Final = "whsec_simulator"  # noqa: S105
"""Everybody knows it, for it was a default once: whoever signs with it could tell us that money moved."""

NOBODYS_PAGE: Final = "https://example.com/paid"
"""Where the simulator sends customers unless it is told: no shop is there."""

_url: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s/?#]+[^\s]*").fullmatch


class LimitSettings(Part):
    """What one request may ask for. Everything has a limit, and the limit has a reason."""

    items_max: int = Field(10, ge=1, le=100)
    """Tiers in one booking. admit.lua grows with it, and Redis runs nothing else meanwhile."""

    quantity_max: int = Field(10, ge=1, le=1_000)
    """Tickets of one tier in one booking."""

    body_max_bytes: int = Field(16_384, ge=1_024)
    """Bytes of a request body that are read before it is refused: a booking needs under 2,000."""

    head_max_bytes: int = Field(16_384, ge=2_048, le=65_536)
    """Bytes of a request's first line and headers, counted as they come. Ours need 1,000; proxies and tracing add some."""

    text_max: int = Field(200, ge=1, le=1_000)
    """Characters of a customer id, a reference or a name on a card: they live in Redis until PostgreSQL has them."""

    page_max: int = Field(100, ge=1, le=1_000)
    """Rows of one page of a listing."""

    feed_page_max: int = Field(1_000, ge=1, le=5_000)
    """Notices of one page of the feed: a shop that was away reads as many at once, at about 300 bytes each."""

    wait_max_s: int = Field(30, ge=1, le=300)
    """Seconds for which a shop may let a request for the feed wait: less than whatever stands in between keeps a connection
    that says nothing."""

    pending_max: int = Field(250_000, ge=1)
    """Bookings that may wait for the worker, per shard. Beyond it shops are told 503 `busy`: at about 0.7 kB each
    it bites long before Redis is full, and a wait of minutes helps nobody."""


class HoldSettings(Part):
    """Tickets set aside while the customer types a card number."""

    ttl_s: int = Field(600, ge=5, le=86_400)
    """Length of a hold unless the shop asks for less. Also the most that one extension adds."""

    payable_until: Literal["deadline", "closing"] = "deadline"
    """Until when a hold may be paid: until its own deadline, whatever becomes of the sale meanwhile; or no longer than its
    tickets are on sale (`off_sale_at`, the start, an event or a tier taken off sale). A pause ends neither. Nothing of an event
    that is called off may be paid."""

    attempts_max: int = Field(5, ge=1, le=100)
    """Payments one hold may try. More is card testing."""

    changes_max: int = Field(50, ge=1, le=10_000)
    """How often the items of one hold may be changed. Each change's key is remembered, at about 100 bytes."""

    unpaid_customer_max: int = Field(40, ge=1)
    """Tickets of one event that one customer may have held and not paid for. Beyond it new holds are refused; bookings
    posted with their payment are not counted."""

    unpaid_client_max: int = Field(50_000, ge=1)
    """The same for all customers of one client. Lower it for clients that are not trusted to tell customers apart."""

    given_up_max: int = Field(40, ge=1)
    """Tickets of a tier that a client may give up (held and let go unpaid, less ten for each that it paid for; forgotten after
    a day) before it has to leave some to others. Once they are as many as are left, too, it may have only so many unpaid, or
    a tenth of what is left when that is more, but no more than half."""

    ended_ttl_s: int = Field(900, ge=1)
    """How long a hold that expired or was cancelled, and that no payment was tried for, stays in Redis with its
    idempotency key: long enough for a shop's repeats. Then it is in no store, and reads as 404."""

    ended_max: int = Field(50_000, ge=1)
    """Such holds of one client within `ended_ttl_s`, at about 1 kB each. Beyond it each is kept for 30 s only: who holds
    and cancels for its own sake fills no memory."""


class ApiSettings(Part):
    """The HTTP door."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser, as a JSON list. None by default: shops call from servers."""

    shop_url: str = ""
    """Where the shop front for buyers is: `GET /` sends browsers there. Empty: it shows a page that names the other pages."""

    fast_path: bool = True
    """Answer the hot routes in front of FastAPI. Off, the same functions stand behind ordinary routes."""

    lane: bool = True
    """Admit bookings inside uvicorn's protocol class, below ASGI. Off, they take the fast path through ASGI."""

    shapes: bool = True
    """In the lane, match the head of a booking against those before it on its connection. Off, every head is parsed."""

    batch_max: int = Field(64, ge=1, le=200)
    """Bookings admitted by one script call; twice as many while admission gives way to settlement. Redis runs nothing
    else meanwhile: 64 take one or two milliseconds."""

    calls_max: int = Field(2, ge=1, le=16)
    """Admission calls in flight at once, per process and shard."""

    linger_ms: float = Field(6.0, ge=0, le=20)
    """Longest wait for company before a small admission call, when the call before it was small too."""

    copy_ms: float = Field(200.0, ge=0, le=5_000)
    """Milliseconds for which what is left of an event is shown to its readers as it was read: all of one process share that
    copy, so that an event is asked for five times a second, however many read it. 0: what is shown was read after it was
    asked for."""

    pace_ms: float = Field(35.0, ge=0, le=200)
    """Longest pause between admission calls while settlement is behind, so that a booking is settled soon after it was
    accepted. 0: never pause."""

    key_cache_s: float = Field(30.0, ge=0, le=300)
    """Seconds for which the secret of a good API key is not checked again. A revoked key is refused within two seconds
    whatever this says, and one that expires to the second."""

    session_s: int = Field(43_200, ge=60, le=604_800)
    """Seconds for which an operator stays signed in at `/ops`: an evening. A key that is revoked ends its sessions within two
    seconds."""

    retry_s: float = Field(2.0, ge=0.1, le=30)
    """Seconds during which an admission is sent again when Redis did not answer, before the shop gets 503."""

    drain_s: float = Field(3.0, ge=0, le=60)
    """Seconds for which an idle connection stays open once the process was told to stop: its next request is answered
    with `Connection: close`. A connection closed at once would reset a request that is just being sent. A request that
    has begun to arrive may take as long again."""

    waiting_max: int = Field(256, ge=1)
    """Bookings that may wait for their admission call, per process and shard. Beyond it newcomers are told 503 `overloaded`,
    once it has been so for `burst_s`: whoever is let in is answered in time."""

    burst_s: float = Field(0.5, ge=0, le=60)
    """Seconds for which more than that may wait; and half of them, for which all may wait longer than `wait_ms`. A burst is
    served, a flood is not."""

    wait_ms: float = Field(50.0, ge=0, le=10_000)
    """When all have waited longer than this for half of `burst_s`, it is a flood: a turn of the loop lets in what it has time
    for, and whoever else comes is told 503 `overloaded`, until hardly anybody is; `/healthz`, `/readyz` and `/metrics` are
    answered. 0: everybody waits for as long as all connections take."""

    connections_max: int = Field(4_096, ge=1)
    """Connections of one process, as far as there are descriptors; one more is answered 503 and closed. A hostile one
    can hold some 200 kB."""

    waits_max: int = Field(1_024, ge=1)
    """Requests for the feed that may wait in one process, at about 8 kB beside their connection. One more gets 503
    `overloaded`."""

    waits_client_max: int = Field(128, ge=1)
    """Of one shop. One more gets 429 `too-many-waits`: a shop that forgets its requests takes no other's place."""

    head_s: float = Field(10.0, gt=0, le=600)
    """Seconds in which the head of a request has to arrive, and a new connection to send something."""

    body_s: float = Field(30.0, gt=0, le=600)
    """Seconds in which the body has to arrive, or to be let by when it is too long."""

    flush_s: float = Field(20.0, gt=0, le=600)
    """Seconds for which a client may read nothing of its answers before the connection is cut."""

    keep_alive_s: float = Field(75.0, gt=0, le=3_600)
    """Seconds for which an idle connection stays open: longer than a load balancer keeps its own."""


class WorkerSettings(Part):
    """Settlement."""

    batch_max: int = Field(500, ge=1, le=2_000)
    """Bookings settled in one PostgreSQL transaction."""

    batches_at_once: int = Field(3, ge=1, le=8)
    """Batches under way at once in one worker and shard: one commits while the next is claimed and authorised."""

    linger_ms: float = Field(55.0, ge=0, le=500)
    """Least time between two claims, unless the first came back full: bigger batches cost less CPU a booking."""

    lease_ms: int = Field(15_000, ge=200, le=600_000)
    """How long a claimed booking belongs to its worker. After a crash, its batch waits this long for another.
    Must outlast a gateway call and a transaction."""

    sweep_ms: int = Field(1_000, ge=50, le=60_000)
    """How often a worker looks for work that no bell announced: lost rings, expired leases, late holds."""

    drain_s: float = Field(10.0, ge=0.5, le=60)
    """A ring's job leaves after this long and rings again, well before arq's own job timeout."""

    attempts_max: int = Field(5, ge=1, le=100)
    """Times a booking may fail alone before it is parked for an operator."""

    settled_ttl_s: int = Field(86_400, ge=1)
    """How long a final booking and its idempotency key stay in Redis."""

    lock_timeout_ms: int = Field(2_000, ge=10)
    """PostgreSQL `lock_timeout` of the settling transaction."""

    statement_timeout_ms: int = Field(10_000, ge=100)
    """PostgreSQL `statement_timeout` of the settling transaction."""

    webhooks_ms: int = Field(250, ge=10, le=60_000)
    """How often a worker looks for endpoints of shops that have something to be sent."""

    guard_ms: int = Field(1_000, ge=50, le=60_000)
    """How often the sequence guard compares what Redis and PostgreSQL remember."""

    reconcile_s: float = Field(300.0, ge=1)
    """How often a worker counts drift, without mending it."""

    pool_max: int = Field(10, ge=2, le=200)
    """PostgreSQL connections of one worker."""

    retention_days: int = Field(30, ge=8, le=3_650)
    """How long PostgreSQL keeps stock moves that Redis has made, webhooks that were acted on, failures of bookings that have
    ended, and notices, unless one of the next four says otherwise, and where bookings are traced. Redis remembers a move for
    7 days. Bookings and payments stay for ever."""

    retention_moves_days: int | None = Field(None, ge=8, le=3_650)
    """Of stock moves alone."""

    retention_webhooks_days: int | None = Field(None, ge=8, le=3_650)
    """Of webhooks alone: gateways repeat one for days, and what is forgotten is acted on anew."""

    retention_failures_days: int | None = Field(None, ge=1, le=3_650)
    """Of failures of bookings that have ended alone; a parked booking stays until an operator decides."""

    retention_notices_days: int | None = Field(None, ge=1, le=3_650)
    """Of notices alone: how long a shop may read nothing and still miss none."""

    @property
    def retention(self) -> dict[str, int]:
        """Days by table."""
        own_days = {
            "stock_moves": self.retention_moves_days,
            "webhook_events": self.retention_webhooks_days,
            "dead_letters": self.retention_failures_days,
            "booking_traces": None,
            "notices": self.retention_notices_days,
        }
        return {table: days or self.retention_days for table, days in own_days.items()}


class GatewaySettings(Part):
    """Who takes the money."""

    kind: Literal["simulator", "http", "stripe"] = "simulator"
    """`simulator` keeps its ledger in the data directory, `http` calls a `boxoffice gateway`, `stripe` calls Stripe."""

    timeout_s: float = Field(5.0, gt=0, le=60)
    """Longest wait for one answer of the gateway; an unanswered call is looked up, never guessed."""

    cutoff_s: float = Field(1.0, gt=0, le=60)
    """An answer that takes longer is a late one: the simulator's late cards take half as long again, and a lease must
    outlast two of them. No batch waits for it: slow answers are settled when they come."""

    concurrency: int = Field(64, ge=1, le=1_000)
    """Gateway calls in flight in one worker."""

    deadline_s: float = Field(600.0, gt=0)
    """A payment whose outcome stays unknown this long fails as `payment_unavailable`, and is voided."""

    retry_s: float = Field(0.5, gt=0, le=3_600)
    """Pause before a capture, void, refund or look-up whose outcome is unknown is asked again; doubles with each try."""

    retry_max_s: float = Field(300.0, gt=0, le=86_400)
    """Longest such pause. A gateway that is away for hours is asked so often about each payment, and no more often."""

    url: str = ""
    """Where the `http` simulator or a stand-in for Stripe listens. Empty: Stripe's own address."""

    api_key: str = Field("", repr=False)
    """Secret key for Stripe, or the token that a `boxoffice gateway` wants to be shown. Empty for the latter: the one in the
    data directory."""

    webhook_secret: str = Field("", repr=False)
    """Shared secret that signs the gateway's webhooks. Stripe's own; empty for a simulator: one in the data directory."""

    webhook_secret_before: str = Field("", repr=False)
    """The secret before that one, believed as well while it is being changed. Empty: none."""

    return_url: str = NOBODYS_PAGE
    """Where a gateway sends the customer after 3-D Secure: a page of the shop. Stripe needs a real one."""

    webhook_age_s: int = Field(300, ge=1)
    """Oldest webhook signature that is believed."""

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Whoever signs with one of these is the gateway."""
        return tuple(secret for secret in (self.webhook_secret, self.webhook_secret_before) if secret)

    @model_validator(mode="after")
    def _stripe_is_complete(self) -> Self:
        if self.kind == "stripe" and (wrong := self._missing_for_stripe()):
            raise ValueError("; ".join(wrong))
        return self

    def _missing_for_stripe(self) -> list[str]:
        wrong = []
        if not self.api_key.strip():
            wrong.append(
                "gateway.kind=stripe needs BOXOFFICE_GATEWAY__API_KEY, a secret (sk_…) or restricted (rk_…) key"
            )
        elif self.api_key.startswith(("pk_", "whsec_")) or self.api_key.strip() != self.api_key:
            wrong.append("BOXOFFICE_GATEWAY__API_KEY is no secret key of Stripe, which begins with sk_ or rk_")
        if self.webhook_secret.strip() in ("", SIMULATOR_SECRET) or self.webhook_secret_before == SIMULATOR_SECRET:
            wrong.append(
                "gateway.kind=stripe needs BOXOFFICE_GATEWAY__WEBHOOK_SECRET, the one of its endpoint, which begins with whsec_"
            )
        if self.return_url == NOBODYS_PAGE or not _url(self.return_url):
            wrong.append(
                "gateway.kind=stripe needs BOXOFFICE_GATEWAY__RETURN_URL: the whole URL of the shop's page to which "
                "customers come back after 3-D Secure"
            )
        return wrong
