"""The window of one shard: collects bookings and hands them to admit.lua, some calls at a time.

Concurrent bookings of a shard share a call (admit.lua takes many), so that one round trip and one fsync serve them all.
A call runs in a task of its own: a request that goes away never cuts an admission in half. When a call errors, its
members are sent again one by one, under the same booking ids, so only the bad one is told so.

One file because who waits, who is sent away and when a call goes out depend on the same few numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import cycle
from typing import Any, Final

from msgspec.structs import replace
from redis.exceptions import RedisError

from boxoffice.admission.backlog import LEAST_S, Backlog
from boxoffice.admission.counting import count_call
from boxoffice.admission.first_uses import FirstUses
from boxoffice.admission.flood import FLOOD, Waits
from boxoffice.admission.forms import Admitted, Form, answers_of, views_of
from boxoffice.admission.newcomers import Newcomers
from boxoffice.admission.outcomes import CREATED
from boxoffice.admission.over import Over
from boxoffice.admission.protocol import Call, Codec, Reply, decode
from boxoffice.admission.spans import trace_call
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import BoxOfficeError, Overloaded, RateLimited, RunUnchecked, StoreAway
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores.gate import Lacking, ask
from boxoffice.stores.record import Line
from boxoffice.stores.redis import AWAY
from boxoffice.stores.refusals import refusal
from boxoffice.stores.scripts import Commands
from boxoffice.stores.shard import Shard
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.traces import TRACES

__all__ = ["Window"]

PACE_FROM: Final = 500
"""Bookings that may be due and claimed by nobody before admission gives way to settlement: a full batch."""

PACE_FULLY: Final = 1500
"""So many, and admission gives way as long as it may: `api.pace_ms`."""

PACE_FOR_S: Final = 0.25
"""So long after a worker was last seen to claim something. Where nobody settles, giving way helps nobody."""

SMALL_CALL: Final = 16
"""A call of fewer bookings than this is followed by a short wait for company: see `api.linger_ms`."""


ROOM: Final = 4
"""An API key that is over its limit has one part in so many of the places where bookings wait."""

UNCOUNTED: Final = frozenset({b"replayed", b"mismatch", b"created", b"rate_limited"})
"""Answers to what is no attempt, as lua/admit.lua counts them."""


class Window:
    """Where the forms of one shard wait for its next call."""

    def __init__(
        self, here: Shard, redis: Commands, settings: Settings, clock: Clock = CLOCK, over: Over | None = None
    ) -> None:  # fmt: skip
        """`redis` is who sends its calls to the shard; `over` remembers who is over a limit in any."""
        self.redis = redis
        self._codec = Codec(here, settings.limits.pending_max)
        self.admit = self._codec.script
        self.settings = settings
        self.clock = clock
        self.queue: list[Form] = []
        self.short: dict[str, tuple[int, float]] = {}
        self._lacks = partial(Lacking(lambda _: redis, clock).met, here.number)
        self.calls: set[asyncio.Task[None]] = set()
        self.timer: asyncio.Handle | None = None
        self._wait_until = 0.0
        self.pace_s = 0.0
        self._claimed: int | None = None
        self._claimed_at = -PACE_FOR_S
        self._shard = here.number
        self._context = Context()
        """A call is for many requests, and works in the name of none."""
        self._crowded_since: float | None = None
        """When as many waited as may, and since when the queue was never empty."""
        self._again_s = cycle((1, 2, 3))
        self._overloaded = Overloaded(retry_after_s=next(self._again_s))
        self.over = Over() if over is None else over
        self.first_uses = FirstUses(redis, here)
        self.newcomers = Newcomers()
        self._waits = Waits()
        self.backlog = Backlog()

    def seems_short(self, lines: tuple[Line, ...]) -> bool:
        """Whether one of these tiers had too few tickets a moment ago."""
        for line in lines:
            short = self.short.get(line.tier)
            if short is not None and line.quantity > short[0]:
                if self.clock.now_s() < short[1]:
                    return True
                del self.short[line.tier]
        return False

    def put(self, form: Form) -> None:
        """Let it wait for the next call; or refuse it, when too many have waited for too long, or its key is over its limit and
        would crowd others out."""
        waiting, most = len(self.queue), self.settings.api.waiting_max
        if (waiting >= most and self._is_flooded()) or (
            self.over.until_s and waiting >= most // ROOM
            and self.over.has_key(self._shard, form.template.allowance, self.clock.now_s())
        ):  # fmt: skip
            self._refuse(form)
            return
        self.queue.append(form)
        if self.timer is None:
            self.schedule()

    def _is_flooded(self) -> bool:
        """As many wait as may, and the queue was not empty for longer than a burst takes."""
        now = self.clock.now_s()
        if self._crowded_since is None:
            self._crowded_since = now
        if now - self._crowded_since < self.settings.api.burst_s:
            return False
        if self.settings.api.wait_ms and not FLOOD.is_on:
            FLOOD.begin(self.settings.api.burst_s)
        return True

    def _note_newcomers(self, forms: list[Form], reply: Reply, began_s: float) -> None:
        """Of those who came for the first time, those that the script does not count have not come."""
        self.newcomers.at(began_s, reply.now_ms, forms[0].template.allowance.window_s)
        if reply.results.count(CREATED) == len(forms):
            return
        for form, result in zip(forms, reply.results, strict=True):
            if form.newcomer and result != CREATED and result[0] in UNCOUNTED:
                self.newcomers.forget(form.newcomer)

    def _untold(self, forms: list[Form], error: BoxOfficeError) -> list[BoxOfficeError]:
        """Nobody can say, of any of them: none of their customers has come."""
        for form in forms:
            self.newcomers.forget(form.newcomer)
        self.over.forget()
        return [error] * len(forms)

    async def drained(self) -> None:
        """Send the forms that wait, and return once every call has ended."""
        await self.first_uses.drained()
        while self.queue or self.calls:
            self._flush()
            await asyncio.wait(self.calls)

    def schedule(self) -> None:
        """Flush at the end of this loop turn; a little later when the last call was small, or settlement is behind."""
        if not self.queue or len(self.calls) >= self._calls_max():
            return
        loop = asyncio.get_running_loop()
        wait_s = self._wait_until - loop.time()
        enough = 2 * self.settings.api.batch_max if self.pace_s else SMALL_CALL
        if wait_s <= 0 or len(self.queue) >= enough:
            self.timer = loop.call_soon(self._flush, context=self._context)
        else:
            self.timer = loop.call_later(wait_s, self._flush, context=self._context)

    def _flush(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.queue or len(self.calls) >= self._calls_max():
            return
        most = self.settings.api.batch_max * (2 if self.pace_s or FLOOD.is_on else 1)
        forms, self.queue = self.queue[:most], self.queue[most:]
        if FLOOD.is_on and len(self.queue) > self.settings.api.waiting_max:
            self._send_away()
        if self._crowded_since is not None:
            # Who is refused alike shares an answer, though not for ever: it remembers who raised it, and all would come again
            # at once.
            self._overloaded = Overloaded(retry_after_s=next(self._again_s))
            if not self.queue:
                self._crowded_since = None
        loop = asyncio.get_running_loop()
        linger_s = self.settings.api.linger_ms / 1_000 if len(forms) < SMALL_CALL else 0.0
        self._wait_until = loop.time() + max(linger_s, self.pace_s)
        task = loop.create_task(self.call(forms))
        self.calls.add(task)
        task.add_done_callback(partial(self._called, forms))
        if self.queue:
            self.schedule()

    def _send_away(self) -> None:
        """Those who came before it was known to be a flood, and have waited for too long: the first."""
        most = self.settings.api.waiting_max
        surplus, self.queue = self.queue[:-most], self.queue[-most:]
        for form in surplus:
            self._refuse(form)

    def _refuse(self, form: Form) -> None:
        self.newcomers.forget(form.newcomer)
        if FLOOD.is_on:
            FLOOD.count(sent_away=True)
        form.answer(self._overloaded)

    def _calls_max(self) -> int:
        """In a flood a call waits for several turns of a busy loop, and not for Redis."""
        return self.settings.api.calls_max * (2 if FLOOD.is_on else 1)

    def _called(self, forms: list[Form], task: asyncio.Task[None]) -> None:
        self.calls.discard(task)
        if task.cancelled() or task.exception() is not None:
            # Every form is answered; `answer` of one that has its answer already raises, and is passed over.
            error = None if task.cancelled() else task.exception()
            seldom.exception("admission.failed", error or asyncio.CancelledError(), bookings=len(forms))
            for form in forms:
                with suppress(Exception):
                    form.answer(StoreAway())
        if self.timer is None:
            self.schedule()

    async def call(self, forms: list[Form]) -> None:
        """Admit the forms together; when that errors, each alone."""
        answers: Sequence[Admitted | BoxOfficeError | None]
        began_s = self.clock.now_s()
        # Those who come are let wait while settlement is behind: that is no flood.
        self._waits.note(began_s - forms[0].since - self.pace_s, began_s, self.settings.api)
        try:
            views = views_of(forms)
            reply = decode(await self.send(forms, views))
            self.pace_s = self.pace(reply.behind, reply.admissions)
            self.backlog.note(reply.behind, reply.admissions, self.clock.now_s())
            self._note_newcomers(forms, reply, began_s)
            answers = self._paced(answers_of(forms, views, reply, self.short, self._lacks, self.clock.now_s))
            if self.over.until_s or RateLimited in set(map(type, answers)):
                self.over.note(self._shard, forms, reply, answers, began_s, self.clock.now_s())
        except BoxOfficeError as error:
            answers = self._untold(forms, error)
        except RedisError as error:
            # A full Redis refused before it wrote anything, and would refuse each form alone as well.
            if len(forms) > 1 and refusal(error) != "OOM":
                for form in forms:
                    await self.call([form])
                return
            seldom.error(
                "admission.refused", booking_id=forms[0].id, bookings=len(forms), error=type(error).__name__,
                reply=refusal(error),
            )  # fmt: skip
            answers = self._untold(forms, StoreAway("Redis refused the booking; nothing was taken."))
        except Exception as error:
            seldom.exception("admission.failed", error)
            answers = self._untold(forms, StoreAway())
        if REGISTRY.counts:
            count_call(forms, answers, began_s, self.clock.now_s())
        for form, answer in zip(forms, answers, strict=True):
            try:
                if answer is None:
                    assert form.as_booking is not None, "only a question has no answer"
                    booking = form.as_booking()
                    self.put(booking if form.trace is None else booking.traced(form.trace))
                else:
                    form.answer(answer)
            except Exception as error:
                # A client whose answer could not be sent asks again; the other forms still have to be answered.
                seldom.exception("admission.untold", error, booking_id=form.id)
        if TRACES.on:
            trace_call(self._shard, forms, answers, began_s, self.clock.now_s())

    def _paced(self, answers: list[Admitted | BoxOfficeError | None]) -> list[Admitted | BoxOfficeError | None]:
        """With when to look again, where that is later than usual."""
        wait_s = self.backlog.wait_s(self.clock.now_s())
        if wait_s == LEAST_S:
            return answers
        return [replace(each, retry_after_s=wait_s) if isinstance(each, Admitted) else each for each in answers]

    def pace(self, behind: int, admissions: int) -> float:
        """Seconds between two calls while so many bookings are due and unclaimed. Admission and settlement share the CPU:
        without a pause, bookings are accepted faster than workers can settle them, and each waits seconds for its end,
        while no more are settled."""
        now = self.clock.now_s()
        claimed = admissions - behind
        if self._claimed is None or claimed > self._claimed:
            if self._claimed is not None:
                self._claimed_at = now
            self._claimed = claimed
        if behind <= PACE_FROM or now > self._claimed_at + PACE_FOR_S:
            return 0.0
        share = min(1.0, (behind - PACE_FROM) / (PACE_FULLY - PACE_FROM))
        return share * self.settings.api.pace_ms / 1_000

    async def send(self, forms: list[Form], views: dict[str, EventView]) -> Any:
        """One script call. While Redis does not answer, or has just started and is not checked, it is sent again, which is
        harmless: a booking that is already in under its own id counts as created."""
        all_keys, args = self._codec.encode(
            Call({event: view.tier_ids for event, view in views.items()}, forms)
        )  # fmt: skip
        deadline = forms[0].since + self.settings.api.retry_s
        pause_s = 0.02
        while True:
            try:
                return await self.admit(self.redis, all_keys, args)
            except RunUnchecked:
                if self.clock.now_s() + pause_s > deadline:
                    raise
                await ask(self.redis, self._shard)
            except AWAY as error:
                if self.clock.now_s() + pause_s > deadline:
                    seldom.warning("admission.store_away", bookings=len(forms), error=type(error).__name__)
                    raise StoreAway from error
            await self.clock.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.25)
