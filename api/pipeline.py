"""What a booking goes through before it is admitted, whichever way it came in: the same checks, in one order.

The lane and ASGI differ in how they read a request and how they wait. What is asked of it stands here, once: `prepare` goes
through the checks as far as it can without waiting, and `passed` through those that are left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from msgspec import Struct

from api.bodies import check_length
from api.headers import Headers, api_key_of
from api.rights import scope_of
from boxoffice.access.rates import Allowance
from boxoffice.access.return_urls import check_return_url
from boxoffice.access.scopes import Caller
from boxoffice.admission.admission import OverLimit
from boxoffice.errors import BoxOfficeError, Malformed, Unauthorized
from boxoffice.office import BoxOffice
from boxoffice.wire.parameters import parse_idempotency_key
from boxoffice.wire.requests import BookingRequest, named_in, parse_booking

__all__ = ["CHECKS", "MayBeRepeat", "NeedsWait", "Prepared", "Refusal", "Step", "caller_of", "passed", "prepare"]


class Prepared(Struct, frozen=True, gc=False):
    """A booking that passed every check, to be given to the admission."""

    client: str
    order: BookingRequest
    key_digest: str
    allowance: Allowance
    """Of the API key."""


class Refusal(Struct, frozen=True, gc=False):
    """A check that it did not pass."""

    error: BoxOfficeError
    client: str
    """Empty while nobody knows whose booking it is."""


class NeedsWait(Struct, frozen=True, gc=False):
    """A check that has to ask Redis or PostgreSQL first."""

    passage: Passage
    wait: Wait
    next_check: int
    """The next one, by its place in `CHECKS`."""

    async def next(self) -> Step:
        """Wait, and go on."""
        try:
            await self.wait()
        except BoxOfficeError as error:
            return Refusal(error, self.passage.client)
        return _go_on(self.passage, self.next_check)


class MayBeRepeat(Struct, frozen=True, gc=False):
    """Its API key, or its customer, is over a limit: it goes on if it is a repeat, and is refused if it is none."""

    passage: Passage
    over: OverLimit
    next_check: int

    def ask(self, answer: Callable[[Step], None]) -> None:
        """`answer` is called once, from the loop."""
        self.over.first_uses.ask(self.over.name, partial(self._known, answer))

    def _known(self, answer: Callable[[Step], None], used: bool) -> None:
        answer(_go_on(self.passage, self.next_check) if used else Refusal(self.over.error, self.passage.client))

    async def next(self) -> Step:
        """Ask, and go on."""
        future: asyncio.Future[Step] = asyncio.get_running_loop().create_future()

        def answer(step: Step) -> None:
            if not future.done():
                future.set_result(step)

        self.ask(answer)
        return await future


async def passed(step: Step) -> Prepared | Refusal:
    """Wait as often as it takes."""
    while not isinstance(step, Prepared | Refusal):
        step = await step.next()
    return step


Step = Prepared | Refusal | NeedsWait | MayBeRepeat

Wait = Callable[[], Awaitable[object]]

Check = Callable[["Passage"], Wait | OverLimit | None]


class Passage(Struct, gc=False):
    """A booking on its way through the checks."""

    office: BoxOffice
    headers: Headers
    body: bytes
    client: str = ""
    caller: Caller | None = None
    key_digest: str = ""
    order: BookingRequest | None = None


def prepare(office: BoxOffice, headers: Headers, body: bytes) -> Step:
    """Go through the checks without waiting. A body that is too long may be cut off, one byte above the limit or later."""
    return _go_on(Passage(office, headers, body), 0)


def _go_on(passage: Passage, first: int) -> Step:
    """From this check on, by its place in `CHECKS`."""
    try:
        for check in CHECKS[first:]:
            wait = check(passage)
            if wait is not None:
                after = CHECKS.index(check) + 1
                return (
                    MayBeRepeat(passage, wait, after)
                    if isinstance(wait, OverLimit)
                    else NeedsWait(passage, wait, after)
                )
    except BoxOfficeError as error:
        return Refusal(error, passage.client)
    assert passage.order is not None and passage.caller is not None, "it was parsed"
    return Prepared(passage.client, passage.order, passage.key_digest, passage.caller.allowance)


_SCOPE: Final = scope_of("book")


def permitted(passage: Passage) -> Wait | None:
    """Whose API key is it, and may it book? Raises `Unauthorized` and `Forbidden`."""
    key = api_key_of(passage.headers.authorization)
    if key is None:
        raise Unauthorized
    caller = passage.office.catalogue.api_keys.known_caller(key)
    if caller is None:
        return partial(_look_up, passage, key)
    passage.client, passage.caller = caller.client, caller
    if _SCOPE not in caller.scopes or passage.headers.origin is not None:
        caller.check(_SCOPE, passage.headers.origin)
    return None


async def _look_up(passage: Passage, key: str) -> None:
    caller = await passage.office.catalogue.api_keys.caller_of(key)
    passage.client, passage.caller = caller.client, caller
    caller.check(_SCOPE, passage.headers.origin)


def within_limits(passage: Passage) -> OverLimit | None:
    """Is its API key, or its customer, known to be over a limit? Then no more of it is read than tells a repeat. Raises
    `Malformed` for its idempotency key."""
    office, caller = passage.office, passage.caller
    if not office.admission.over.until_s:
        return None
    assert caller is not None, "it was asked who calls"
    named = named_in(passage.body) if len(passage.body) <= office.settings.limits.body_max_bytes else None
    if named is None:
        return None
    key_digest = parse_idempotency_key(passage.headers.idempotency_keys)
    return office.admission.over_limit(passage.client, *named, key_digest, caller.allowance)


def parsed(passage: Passage) -> None:
    """Is it a booking? Raises `Malformed` and `CardDataRefused`; a URL that is not allowed is told of what is no repeat."""
    passage.headers.check_body()
    passage.key_digest = parse_idempotency_key(passage.headers.idempotency_keys)
    office, body = passage.office, passage.body
    if len(body) > office.settings.limits.body_max_bytes:
        check_length(body, office.settings.limits.body_max_bytes)
    passage.order = order = parse_booking(body, office.settings, office.gateway)
    caller = passage.caller
    assert caller is not None, "it was asked who calls"
    if order.return_url is not None:
        try:
            check_return_url(order.return_url, caller.return_urls)
        except Malformed as error:
            # It may have been allowed when this was booked: then this is its repeat, and nobody is sent there anew.
            order.barred = partial(Malformed, error.detail, pointer=error.pointer, code=error.code)
    else:
        order.return_url = caller.return_url


def known_tiers(passage: Passage) -> Wait | None:
    """Are its tiers in the map? Raises `NotFound`."""
    admission, order = passage.office.admission, passage.order
    assert order is not None, "it was parsed"
    return None if admission.ready_for(order) else partial(admission.know_tiers, order)


CHECKS: Final[tuple[Check, ...]] = (permitted, within_limits, parsed, known_tiers)
"""In this order, and each refuses for all that stand behind it. What needs to know whose booking it is stands behind the first;
what is to cost less than reading a body stands before the second."""


async def caller_of(office: BoxOffice, authorization: bytes | None) -> Caller:
    """Who sends any other request, by its API key. What it may do is still to be checked. Raises `Unauthorized`."""
    key = api_key_of(authorization)
    if key is None:
        raise Unauthorized
    return await office.catalogue.api_keys.caller_of(key)
