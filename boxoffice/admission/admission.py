"""Taking bookings in: one atomic script call binds stock, record, idempotency key and somebody to settle it.

An order becomes a form, by the template of all orders like it, and waits in its shard's window for the next call.

One file because a form is made of its order, template and price in one go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from boxoffice import ids
from boxoffice.access.rates import FREE, Allowance
from boxoffice.admission.backlog import LEAST_S, pause_s
from boxoffice.admission.first_uses import FirstUses
from boxoffice.admission.forms import NOBODY, Admitted, Answer, Form, Named, Order
from boxoffice.admission.over import Over
from boxoffice.admission.protocol import question
from boxoffice.admission.templates import BookingTemplate, Gaps, digits_of, text_of
from boxoffice.admission.window import Window
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import BoxOfficeError, GateClosed, Malformed, NotFound, PriceOutdated, RateLimited
from boxoffice.sales.catalogue import Catalogue, EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.record import Line
from boxoffice.stores.shard import Shards
from boxoffice.telemetry.traces import TRACES, Trace, current

__all__ = ["Admission", "OverLimit"]


class OverLimit(NamedTuple):
    """A booking that is refused, unless its idempotency key was used before."""

    error: RateLimited
    first_uses: FirstUses
    name: str
    """Of the first use of its idempotency key, in Redis."""


TEMPLATES_MAX: Final = 4_096
"""Booking templates remembered, about 3 kB each; then they are made anew."""


class Admission:
    """Admits bookings. One per process."""

    def __init__(self, shards: Shards, catalogue: Catalogue, settings: Settings, clock: Clock = CLOCK) -> None:
        self.catalogue = catalogue
        self._settings = settings
        self._names = [(keys.booking(shard, ""), keys.idempotency(shard, "")) for shard in range(settings.shards)]
        self.templates: dict[tuple[object, ...], BookingTemplate] = {}
        self._now_s, self._epoch_ns = clock.now_s, clock.epoch_ns
        self.over = Over()
        self.windows = [Window(shard, shards.pinned(shard.number), settings, clock, self.over) for shard in shards]

    async def book(
        self, client: str, order: Order, key_digest: str, allowance: Allowance = FREE
    ) -> Admitted:  # fmt: skip
        """Admit one booking for a client, or say why not. `allowance` is of the API key that asks.

        Raises `NotFound` (tier), `Malformed` (tiers of two events), any `Refused`, or `Unavailable` when nobody can
        say: then the same request with the same key may be sent again.
        """
        await self.know_tiers(order)
        result = await self.ask(client, order, key_digest, allowance)
        if isinstance(result, PriceOutdated):
            # Not what the shop has seen: it is our map that was late. Read it anew and ask once more.
            await self.catalogue.refresh()
            result = await self.ask(client, order, key_digest, allowance)
        if isinstance(result, BoxOfficeError):
            raise result
        return result

    def pause_s(self, booking_id: str, *, begun: bool = False) -> int:
        """Seconds until a pending booking is worth looking at: by the backlog of its shard, as this process has seen it,
        and by how long it has been there already, unless its payment has only just `begun`."""
        shard, made_ms = ids.shard_of(booking_id), ids.made_ms(booking_id)
        wait_s = self.windows[shard].backlog.wait_s(self._now_s()) if shard < len(self.windows) else LEAST_S
        if begun or made_ms is None:
            return wait_s
        return pause_s(wait_s, self._epoch_ns() / 1_000_000_000 - made_ms / 1_000)

    def ready_for(self, order: Order) -> bool:
        """Whether `submit` may be called without waiting: the map has the tiers and is fresh."""
        for tier_id, _ in order.lines:  # noqa: SIM110 - most bookings have one, and a generator costs more than looking at it
            if self.catalogue.find_tier(tier_id) is None:
                return False
        return True

    async def know_tiers(self, order: Named) -> None:
        """Read the events of those tiers that the map has not got. Raises `NotFound`, or `Unavailable` while there is no
        catalogue."""
        for tier_id, _ in order.lines:
            if self.catalogue.find_tier(tier_id) is None:
                await self.catalogue.event_of_tier(tier_id)

    def over_limit(
        self, client: str, customer: str, tier: str, key_digest: str, allowance: Allowance
    ) -> OverLimit | None:  # fmt: skip
        """Of a booking whose API key, or customer, is known to be over a limit of its tier's shard: how to find out whether it
        is a repeat, and why it is refused if it is none. None: the script is to say."""
        known = self.catalogue.known_tier(tier)
        if known is None or not known[0].sold_by(client) or known[0].shard >= len(self.windows):
            return None
        event = known[0]
        error = self.over.refusal(event.shard, client, customer, allowance, self._now_s())
        if error is None:
            return None
        name = self._names[event.shard][1] + ids.scope(client, event.id, key_digest)
        return OverLimit(error, self.windows[event.shard].first_uses, name)

    async def ask(
        self, client: str, order: Order, key_digest: str, allowance: Allowance = FREE
    ) -> Admitted | BoxOfficeError:
        """What the next call says of this order."""
        future: asyncio.Future[Admitted | BoxOfficeError] = asyncio.get_running_loop().create_future()

        def answer(result: Admitted | BoxOfficeError) -> None:
            if not future.done():
                future.set_result(result)

        self.submit(client, order, key_digest, answer, allowance, current.get() if TRACES.on else None)
        return await future

    def submit(
        self, client: str, order: Order, key_digest: str, answer: Answer, allowance: Allowance = FREE,
        trace: Trace | None = None,
    ) -> None:  # fmt: skip
        """Put a booking into the next call. `answer` is called once, from the loop. `trace`: of its request, if it is sampled.

        Its tiers must be in the catalogue's map. Raises `Malformed`, `NotFound`, or `GateClosed` (its shard is
        not served here), at once.
        """
        template = self.template(client, order, allowance)
        event = template.event
        if event.shard >= len(self.windows):
            raise GateClosed("This process does not serve the event's shard.")
        window = self.windows[event.shard]
        scope = ids.scope(client, event.id, key_digest)
        charge, expected, code = order.charge, order.expected_amount_cents, order.access_code
        method, card = (charge.method, charge.last4 or charge.token) if charge else ("", "")
        fingerprint = ids.fingerprint(
            order.customer_id, template.items, method, card, expected, order.metadata, code
        )  # fmt: skip
        owner, since = ids.owner_digest(client, order.customer_id), self._now_s()
        first = allowance.customer_max is not None and order.barred is None and window.newcomers.is_new(owner, since)
        # A question says nothing of its code, without which it would be told that the sale has not begun.
        if order.barred is None and (code or not window.short or not window.seems_short(template.lines)):
            form = self._form(order, key_digest, template, scope, fingerprint, owner, first, since, answer)
            window.put(form if trace is None else form.traced(trace))
            return
        as_booking = partial(self._form, order, key_digest, template, scope, fingerprint, owner, first, since, answer)
        question = self._question(template, scope, fingerprint, owner, first, since, answer, as_booking)
        question.barred, question.trace = order.barred, trace
        window.put(question)

    async def close(self) -> None:
        """Let every call in flight end."""
        for window in self.windows:
            await window.drained()

    def _question(
        self, template: BookingTemplate, scope: str, fingerprint: str, owner: str, first: bool,
        since: float, answer: Answer,
        as_booking: Callable[[], Form],
    ) -> Form:  # fmt: skip
        """In a sold-out rush nearly everybody is refused: for that, key, fingerprint, owner and items are enough. The script
        goes through the same checks in the same order, up to what is left."""
        record_prefix, idempotency_prefix = self._names[template.event.shard]
        return Form(
            NOBODY, template, template.first_question if first else template.question,
            question(fingerprint, template.items, owner), record_prefix + NOBODY, idempotency_prefix + scope, answer,
            since, as_booking=as_booking, newcomer=owner if first else "", owner=owner,
        )  # fmt: skip

    def _form(
        self, order: Order, key_digest: str, template: BookingTemplate, scope: str, fingerprint: str, owner: str,
        first: bool, since: float, answer: Answer,
    ) -> Form:  # fmt: skip
        shard, charge = template.event.shard, order.charge if template.amount else None
        booking = ids.booking_id(shard, self._epoch_ns() // 1_000_000)
        card = last4 = ""
        if charge is not None:
            card, last4 = text_of(charge), digits_of(charge.last4) if charge.last4 else ""
        # As `Gaps(...)`, in a third of its time.
        gaps: Gaps = tuple.__new__(Gaps, (
            booking, scope, fingerprint, owner, text_of(order.customer_id),
            text_of(order.reference) if order.reference is not None else "", card, last4, key_digest,
            order.metadata or "", text_of(order.return_url) if order.return_url is not None else "", order.access_code,
        ))  # fmt: skip
        record_prefix, idempotency_prefix = self._names[shard]
        return Form(
            booking, template, template.kind_of(order.expected_amount_cents, first=first), template.form(gaps),
            record_prefix + booking, idempotency_prefix + scope, answer, since, gaps, None, None,
            owner if first else "", None, owner, order.access_code,
        )  # fmt: skip

    def template(self, client: str, order: Order, allowance: Allowance = FREE) -> BookingTemplate:
        """The template for such an order, made at its first one under this view of its event."""
        charge = order.charge
        means = charge and (charge.method, bool(charge.last4))
        plain = order.metadata is None and order.return_url is None and not order.access_code
        extras = None if plain else (order.metadata is None, order.return_url is None, not order.access_code)
        alike = (client, allowance.api_key, order.lines, means, order.reference is None, order.hold_s, extras)
        template = self.templates.get(alike)
        if template is not None and (template.allowance is allowance or template.allowance == allowance):
            # Whatever changes in the catalogue makes a new view of the event.
            found = self.catalogue.known_tiers.get(order.lines[0][0])
            if found is not None and found[0] is template.event:
                return template
        event, lines = self.price(client, order)
        free = not any(line.unit_price_cents for line in lines)
        hold_ms = 1_000 * min(order.hold_s or self._settings.holds.ttl_s, self._settings.holds.ttl_s)
        if charge or (free and order.hold_s is None):
            hold_ms = 0
        if free:
            charge = None
        holds = self._settings.holds
        template = BookingTemplate(
            client, event, lines, charge=charge, referred=order.reference is not None, hold_ms=hold_ms,
            described=order.metadata is not None, returning=order.return_url is not None,
            unpaid_max=(holds.unpaid_customer_max, holds.unpaid_client_max, holds.given_up_max),
            coded=bool(order.access_code), allowance=allowance,
        )  # fmt: skip
        if len(self.templates) >= TEMPLATES_MAX:
            self.templates.clear()
        self.templates[alike] = template
        return template

    def price(self, client: str, order: Order) -> tuple[EventView, tuple[Line, ...]]:
        """The event, and its lines by tier with today's prices. Raises `NotFound` for what the client does not sell.

        Asked for each template, which is of one client and of this view of the event.
        """
        known = []
        for index, (tier_id, _) in enumerate(order.lines):
            found = self.catalogue.known_tier(tier_id)
            if found is None:
                raise NotFound("There is no such tier.", pointer=f"/items/{index}/tier_id")
            if not found[0].sold_by(client):
                raise NotFound  # in every word as of a tier that there is not
            known.append(found)
        # After all of them are known to be the client's to sell: which of two refusals comes tells nothing of others' tiers.
        event = known[0][0]
        for index, (other, _) in enumerate(known):
            if other.id != event.id:
                raise Malformed(
                    "All tiers of a booking belong to one event.", pointer=f"/items/{index}/tier_id", code="other_event"
                )
        lines = [
            Line(tier_id, quantity, tier.price_cents)
            for (tier_id, quantity), (_, tier) in zip(order.lines, known, strict=True)
        ]
        lines.sort(key=_by_tier)
        return event, tuple(lines)


def _by_tier(line: Line) -> str:
    return line.tier
