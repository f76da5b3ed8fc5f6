"""Asking for the payments of a batch: look it up in PostgreSQL, then ask the gateway for what is undecided there."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from redis.exceptions import RedisError

from boxoffice.books import rows
from boxoffice.books.decisions import DECIDED, DUPLICATE, Claimed, Known, PaymentRow
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorization,
    Authorized,
    AuthorizeRequest,
    Declined,
    Done,
    Found,
    PaymentGateway,
    RequiresAction,
    Unknown,
    names_cards,
)
from boxoffice.gateway.calls import in_parallel
from boxoffice.settlement.batch import Batch, Ready, halves
from boxoffice.settlement.claims import Claims
from boxoffice.settlement.deciding import GatewayOutcome, by_sequence, is_overdue, never_tried, standing_of
from boxoffice.settlement.declines import WAIT_S, Declines
from boxoffice.settlement.outage import REFUSED, Outage, StoreRefuses
from boxoffice.settlement.slow import SlowAnswers
from boxoffice.states import TOO_MANY_DECLINED
from boxoffice.stores.database import Database
from boxoffice.stores.record import Record

__all__ = ["Authorising", "authorization", "request_of"]

ALIKE_MAX: Final = 3
"""So many bookings of a claim may fail alone while their payments are asked for, and none is answered: then it is the
gateway, or how we ask it."""


class Authorising:
    """Of one shard, each payment under a key of its own: asked again, a gateway answers the same."""

    def __init__(
        self,
        database: Database,
        gateway: PaymentGateway,
        claims: Claims,
        slow: SlowAnswers,
        outage: Outage,
        declines: Declines,
        calls_max: int,
    ) -> None:
        """`calls_max`: calls to the gateway under way, of those that it takes one by one."""
        self.database = database
        self.claims = claims
        self.slow = slow
        self.outage = outage
        self.declines = declines
        self.calls = asyncio.Semaphore(calls_max)
        self._gateway = gateway
        self._card_of = names_cards(gateway)

    async def apart(
        self, batch: Batch, claims: list[Claimed], failed: list[tuple[Claimed, Exception]], since: float
    ) -> Ready:
        """Authorise, and when that fails for a reason of its own, halve the batch down to the offenders, which are added to
        `failed`. Raises `StoreRefuses` when nobody was answered `since`, and some have failed already."""
        try:
            return await self.authorise(batch, claims)
        except (RedisError, GateClosed, *REFUSED):
            raise
        except Exception as error:
            if len(claims) == 1:
                failed.append((claims[0], error))
                if len(failed) >= ALIKE_MAX and not self.outage.answered_after(since):
                    raise StoreRefuses from error
                return Ready([], {}, {})
            first, rest = halves(claims)
            ready = await self.apart(batch, first, failed, since)
            return ready.and_(await self.apart(batch, rest, failed, since))

    async def authorise(self, batch: Batch, claims: list[Claimed]) -> Ready:
        """Look the batch up, then ask the gateway for every payment that PostgreSQL has not decided.

        What the gateway cannot say at once goes on in a task of its own: a slow card never holds up the others.
        """
        claims, known = await self.look_up(batch, claims)
        crashpoint("looked_up")
        ready, ask = [], []
        slow: dict[asyncio.Future[Any], Claimed] = {}
        for claim in claims:
            record, met = claim.record, known.get(claim.record.id)
            if met is None and record.body.amount_cents and not record.cancel_requested:
                ask.append(claim)  # as nearly all of them
            elif standing_of(record, met) in (DECIDED, DUPLICATE) or not record.body.amount_cents:
                ready.append(claim)
            elif is_overdue(record, met, batch.terms):
                slow[in_parallel(partial(self.let_go, batch, met), [claim], self.calls)[0]] = claim
            elif met and met.payment and met.payment.status == "requires_action":
                slow[in_parallel(partial(self.look_closer, met.payment), [claim], self.calls)[0]] = claim
            else:
                ask.append(claim)
        ask, refused, later = await self.declines.sift(ask, known, batch.terms.now_ms, batch.tried)
        if later:
            batch.put_off.update([claim.record.id for claim in later])
            await self.claims.release(batch, later, WAIT_S)
        if self._card_of and ask and await self.declines.looks_at_cards(batch.terms.now_ms):
            ask = self._with_a_look(batch, ask, known, slow)
        batch.tried.update([claim.record.id for claim in ask])
        answers = await self._gateway.authorize_batch([request_of(claim.record) for claim in ask])
        if ask:
            self.outage.answered()
        crashpoint("authorised")
        outcomes: dict[str, GatewayOutcome] = {claim.record.id: Declined(TOO_MANY_DECLINED) for claim in refused}
        ready += refused
        for claim, answer in zip(ask, answers, strict=True):
            if isinstance(answer, asyncio.Future):
                slow[answer] = claim
            else:
                outcomes[claim.record.id] = answer
                ready.append(claim)
        if slow:
            self.slow.wait_for(batch, slow, known)
        return Ready(ready, known, outcomes)

    def _with_a_look(
        self, batch: Batch, ask: list[Claimed], known: dict[str, Known], slow: dict[asyncio.Future[Any], Claimed]
    ) -> list[Claimed]:
        """Ask the gateway for the cards of these first, in tasks of their own. Those that may have been asked for before are
        left: they are asked for again, whatever their card."""
        rest = []
        for claim in ask:
            booking = claim.record.id
            if never_tried(claim, known.get(booking), tried=booking in batch.tried):
                slow[in_parallel(partial(self.unless_spent, batch), [claim], self.calls)[0]] = claim
                batch.tried.add(booking)
            else:
                rest.append(claim)
        return rest

    async def unless_spent(self, batch: Batch, claim: Claimed) -> Authorization:
        """Ask for a payment, unless its card has been declined too often. Of a card without a name nobody can say."""
        assert self._card_of is not None
        request = request_of(claim.record)
        card = await self._card_of(request.token)
        if isinstance(card, str) and await self.declines.is_spent(card, batch.terms.now_ms):
            return Declined(TOO_MANY_DECLINED)
        (answer,) = await self._gateway.authorize_batch([request])
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def look_up(self, batch: Batch, claims: list[Claimed]) -> tuple[list[Claimed], dict[str, Known]]:
        """What PostgreSQL knows already. Of two bookings under one key the later waits until the first is written."""
        async with self.database.writer() as connection:
            known = await rows.known_by_key(connection, [claim.record for claim in claims])
        first: dict[str, Claimed] = {}
        later = []
        for claim in sorted(claims, key=by_sequence):
            record = claim.record
            if record.id not in known and first.setdefault(record.scope, claim) is not claim:
                later.append(claim)
        if later:
            batch.put_off.update(claim.record.id for claim in later)
            await self.claims.release(batch, later, 0.1)
        return [claim for claim in claims if claim.record.id not in batch.put_off], known

    async def look_closer(self, row: PaymentRow, claim: Claimed) -> Authorization:
        """A payment that waited for its customer: has it moved?"""
        found = await self._gateway.lookup(claim.record.payment_key, row.reference)
        return (
            authorization(found)
            if isinstance(found, Found)
            else RequiresAction(row.next_action or "", row.reference or "")
        )

    async def let_go(self, batch: Batch, known: Known | None, claim: Claimed) -> GatewayOutcome:
        """Nobody waits for this payment any more: void it. What a customer finished at the last moment counts, as its
        tickets are still held, unless they were cancelled; and what was captured already always counts."""
        if never_tried(claim, known, tried=claim.record.id in batch.tried):
            return Done("")
        key, row = claim.record.payment_key, known.payment if known else None
        reference = row.reference if row else None
        if row and row.status == "requires_action" and not claim.record.cancel_requested:
            found = await self._gateway.lookup(key, reference)
            if isinstance(found, Found) and found.status in ("authorized", "captured"):
                return authorization(found)
        crashpoint("letting_go")
        outcome = await self._gateway.void(key, reference)
        crashpoint("let_go")
        match outcome:
            case Done():
                return outcome
            case AlreadyCaptured():
                found = await self._gateway.lookup(key, reference)
                return authorization(found) if isinstance(found, Found) else Unknown("captured")
            case Unknown():
                return outcome
            case _:
                return Unknown("void without an answer")


def request_of(record: Record) -> AuthorizeRequest:
    """What is asked of a gateway for a booking. Under the key of a payment whose card nobody remembers, it is a look-up."""
    charge = record.payload.charge
    return AuthorizeRequest(
        record.payment_key,
        record.id,
        record.body.amount_cents,
        record.body.currency,
        charge.method if charge else "card",
        charge.token if charge else "",
        record.body.return_url,
    )


def authorization(found: Found) -> Authorization:
    """What a look-up says, in the words of an authorisation."""
    match found.status:
        case "authorized" | "captured":
            return Authorized(found.reference, found.amount_cents, found.currency)
        case "declined":
            return Declined(found.failure_code or "declined", found.reference, found.card)
        case "requires_action":
            return RequiresAction(found.next_action or "", found.reference)
        case "voided":
            return Declined(found.failure_code or "voided", found.reference)
        case _:
            return Unknown("processing")
