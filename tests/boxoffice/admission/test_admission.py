"""Admissions that share a call: what happens to one of them is not the others' concern."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import pytest
from redis.exceptions import ResponseError

from boxoffice import ids
from boxoffice.admission import window as module
from boxoffice.admission.backlog import LEAST_S
from boxoffice.admission.forms import Admitted, Form
from boxoffice.clock import CLOCK, timestamp
from boxoffice.errors import BoxOfficeError, KeyReused, SoldOut, StoreAway
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import redis as redis_module
from boxoffice.stores.pinned import Pinned
from boxoffice.wire import render
from tests.conftest import CLIENT, SHARD, SaleMaker, eventually
from tests.support.shop.office import book
from tests.support.shop.orders import order


async def admit_three(office: BoxOffice, open_sale: SaleMaker, broken: Any = None) -> list[Admitted | BoxOfficeError]:
    """Three bookings in one call, the second of them answered by `broken`. What the others were told."""
    event = await open_sale(GA=100)
    await office.catalogue.event(event.id)
    told: list[Admitted | BoxOfficeError] = []
    for number, answer in enumerate((told.append, broken or told.append, told.append)):
        office.admission.submit(CLIENT, order(event, customer=f"c{number}", GA=1), f"{number:032x}", answer)
    await office.admission.close()
    return told


async def test_a_call_under_way_is_answered_before_it_closes(office: BoxOffice, open_sale: SaleMaker) -> None:
    """Nothing waits in the queue any more, and Redis may have taken the tickets already."""
    event = await open_sale(GA=100)
    await office.catalogue.event(event.id)
    told: list[Admitted | BoxOfficeError] = []
    office.admission.submit(CLIENT, order(event, customer="c", GA=1), f"{1:032x}", told.append)
    while office.admission.windows[event.shard].queue:
        await asyncio.sleep(0)

    await office.admission.close()

    assert [type(answer) for answer in told] == [Admitted]


async def test_one_that_cannot_be_told_does_not_keep_its_neighbours_waiting(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Its connection is in a state that nobody thought of. The script has taken all three."""

    def broken(_answer: object) -> None:
        raise RuntimeError("planted")

    told = await admit_three(office, open_sale, broken)

    assert [isinstance(answer, Admitted) for answer in told] == [True, True]
    assert await office.redis.zcard("{s01}:pend") == 3


async def test_one_whose_answer_cannot_be_read_does_not_fail_its_neighbours(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that nobody knows, and may ask again with its key."""
    send = module.Window.send

    async def garbled(self: Any, forms: Any, views: Any) -> Any:
        reply = await send(self, forms, views)
        reply[2][1] = [b"created", b"no number"]
        return reply

    monkeypatch.setattr(module.Window, "send", garbled)
    told = await admit_three(office, open_sale)

    assert [type(answer) for answer in told] == [Admitted, StoreAway, Admitted]


async def test_a_member_that_fails_when_it_is_sent_alone_keeps_nobody_waiting(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared call that errors is sent again one by one: a fault of ours in one of them ends that one only."""
    send = module.Window.send

    async def faulty(self: Any, forms: Any, views: Any) -> Any:
        if len(forms) > 1:
            raise ResponseError("planted")
        if forms[0].gaps.customer == '"c1"':
            raise RuntimeError("planted")
        return await send(self, forms, views)

    monkeypatch.setattr(module.Window, "send", faulty)
    told = await asyncio.wait_for(admit_three(office, open_sale), 30)

    assert [type(answer) for answer in told] == [Admitted, StoreAway, Admitted]


async def test_one_whose_answer_was_lost_is_told_what_it_would_have_been(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is sent again: the booking is in once, since its first sending, and is no repeat to its shop."""
    event = await open_sale(GA=100)
    await office.catalogue.event(event.id)
    window = office.admission.windows[event.shard]
    admit: Any = window.admit
    lost: list[Any] = []

    async def losing(*args: Any) -> Any:
        reply = await admit(*args)
        if not lost:
            lost.append(reply)
            raise ConnectionResetError
        return reply

    monkeypatch.setattr(window, "admit", losing)
    answer = await ask(office, event, 1, GA=2)

    assert isinstance(answer, Admitted)
    assert not answer.replayed
    assert answer.shown is not None
    assert msgspec.json.decode(answer.shown)["created_at"] == timestamp(int(lost[0][1]))
    assert answer.availability == [98]


async def ask(office: BoxOffice, event: Any, key: int, **wanted: Any) -> Admitted | BoxOfficeError:
    """One booking alone in its call, and what it was told."""
    told: list[Admitted | BoxOfficeError] = []
    office.admission.submit(CLIENT, order(event, **wanted), f"{key:032x}", told.append)
    await office.admission.close()
    (answer,) = told
    return answer


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """First letters of the forms that went to the script: Q is a question."""
    letters: list[str] = []
    send = module.Window.send

    async def watched(self: Any, forms: Any, views: Any) -> Any:
        letters.extend(form.kind.text[0] for form in forms)
        return await send(self, forms, views)

    monkeypatch.setattr(module.Window, "send", watched)
    return letters


async def test_after_a_tier_was_short_it_is_asked_first(
    office: BoxOffice, open_sale: SaleMaker, sent: list[str]
) -> None:
    """A refusal then costs a question. Orders for no more than was left go straight in."""
    event = await open_sale(GA=2)
    await office.catalogue.event(event.id)

    assert isinstance(await ask(office, event, 1, customer="ada", GA=3), SoldOut)
    assert isinstance(await ask(office, event, 2, customer="bob", GA=3), SoldOut)
    assert isinstance(await ask(office, event, 3, customer="cid", GA=2), Admitted)

    assert sent == ["P", "Q", "P"]


async def test_a_question_that_finds_tickets_becomes_a_booking(
    office: BoxOffice, open_sale: SaleMaker, sent: list[str]
) -> None:
    """Somebody gave theirs back."""
    event = await open_sale(GA=1)
    await office.catalogue.event(event.id)
    assert isinstance(await ask(office, event, 1, customer="ada", GA=2), SoldOut)
    await office.redis.hincrby(f"{{s01}}:ev:{event.id}", f"a:{event.tiers[0].id}", 1)

    admitted = await ask(office, event, 2, customer="bob", GA=2)

    assert isinstance(admitted, Admitted) and not admitted.replayed
    assert sent == ["P", "Q", "P"]
    assert await office.redis.zrange("{s01}:pend", 0, -1) == [admitted.booking_id.encode()]


async def test_a_repeat_is_answered_by_its_booking_though_nothing_is_left(
    office: BoxOffice, open_sale: SaleMaker, sent: list[str]
) -> None:
    """Whoever lost the first answer is not told that it is sold out; and another request under that key is told so."""
    event = await open_sale(GA=1)
    await office.catalogue.event(event.id)
    first = await ask(office, event, 1, customer="ada", GA=1)
    assert isinstance(first, Admitted)
    assert isinstance(await ask(office, event, 2, customer="bob", GA=1), SoldOut)

    again = await ask(office, event, 1, customer="ada", GA=1)

    assert isinstance(again, Admitted) and again.replayed and again.booking_id == first.booking_id
    for answer in (first, again):
        shown = msgspec.json.decode(answer.shown or b"")
        assert (shown["id"], shown["event_id"], shown["customer_id"]) == (first.booking_id, event.id, "ada")
    reused = await ask(office, event, 1, customer="bob", GA=1)
    assert isinstance(reused, KeyReused) and reused.details == {"booking_id": first.booking_id}
    assert sent == ["P", "P", "Q", "Q"]


@pytest.mark.parametrize(("behind", "share"), [(0, 0.0), (500, 0.0), (1_000, 0.5), (1_500, 1.0), (250_000, 1.0)])
async def test_the_further_settlement_is_behind_the_longer_admission_gives_way(
    office: BoxOffice, behind: int, share: float
) -> None:
    """Up to a limit."""
    window = office.admission.windows[SHARD]
    window.pace(0, 0)
    assert window.pace(behind, behind + 1) * 1_000 == pytest.approx(share * office.settings.api.pace_ms)
    assert window.pace(behind, behind + 9_000) * 1_000 == pytest.approx(share * office.settings.api.pace_ms), (
        "whatever was"
    )


async def test_admission_gives_way_to_nobody_where_nobody_settles(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog that no worker works off is what the pending set is for. One claim, and it gives way again."""
    window = office.admission.windows[SHARD]
    assert window.pace(1_000, 1_000) == 0, "nothing was seen yet"
    assert window.pace(1_000, 1_001) > 0
    monkeypatch.setattr(module, "PACE_FOR_S", 0.0)
    assert window.pace(1_100, 1_101) == 0
    assert window.pace(1_050, 1_051) == 0, "an answer that overtook another is no claim"
    monkeypatch.setattr(module, "PACE_FOR_S", 60.0)
    assert window.pace(1_100, 1_102) > 0


@pytest.mark.parametrize(("behind", "calls"), [(0, 6), (1_500, 3)])
async def test_while_settlement_is_behind_bookings_share_a_call(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch, behind: int, calls: int
) -> None:
    """Those of some turns of the loop go together; nobody waits longer than `api.pace_ms`."""
    event = await open_sale(GA=100)
    send, sent = module.Window.send, []

    async def told(self: Any, forms: Any, views: Any) -> Any:
        reply = await send(self, forms, views)
        sent.append(len(forms))
        reply[4], reply[5] = behind, 10_000 + len(sent)
        return reply

    monkeypatch.setattr(module.Window, "send", told)
    monkeypatch.setattr(module, "SMALL_CALL", 1)
    office.admission.windows[SHARD].pace(0, 0)
    await book(office, event, GA=1)
    asked = []
    for number in range(1, 6):
        asked.append(asyncio.create_task(book(office, event, customer=f"c{number}", GA=1)))
        while len(sent) < number + 1 and behind == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*asked)

    assert len(sent) == calls and sum(sent) == 6


async def test_a_tier_added_a_moment_ago_fails_no_booking(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call may have bookings made under the old view of an event and under the new: each sees the tiers it knew."""
    event = await open_sale(GA=10, VIP=5)
    await book(office, event, GA=1)
    older = msgspec.structs.replace(event, tiers=event.tiers[:1])
    known = office.admission.catalogue.known_tier
    views = iter([older, event, older])
    monkeypatch.setattr(office.admission.catalogue, "known_tier", lambda tier: (next(views), known(tier)[1]))
    told: list[Admitted | BoxOfficeError] = []
    for key in range(3):
        office.admission.templates.clear()
        office.admission.submit(CLIENT, order(event, customer=f"c{key}", GA=1), f"{key:032x}", told.append)
    await office.admission.close()

    assert [answer.availability for answer in told if isinstance(answer, Admitted)] == [[6], [6, 5], [6]]
    assert all(render.with_left(b"{}", answer.event, answer.availability) for answer in told)  # type: ignore[union-attr]


async def test_bookings_that_nobody_could_take_are_forgotten(office: BoxOffice, open_sale: SaleMaker) -> None:
    """However long Redis is away, what was asked meanwhile, card tokens among it, does not stay in memory."""

    async def away(*_: object) -> None:
        raise OSError("planted")

    event = await open_sale(GA=10)
    window = office.admission.windows[SHARD]
    window.admit = away  # type: ignore[assignment]
    window.settings = office.settings.model_copy(
        update={"api": office.settings.api.model_copy(update={"retry_s": 0.0})}
    )

    def forms() -> int:
        gc.collect()
        return sum(isinstance(thing, Form) for thing in gc.get_objects())

    others = forms()
    for _ in range(20):
        with pytest.raises(StoreAway):
            await book(office, event, GA=1)

    assert forms() - others < 5


async def test_kept_connections_leave_half_of_the_pool_to_others(office: BoxOffice) -> None:
    """And all of them work again after their server hung up."""
    pool = office.redis.connection_pool
    pinned = Pinned(office.redis)
    for _ in range(2):
        answers = await asyncio.gather(*(pinned.execute_command("ECHO", f"{n}") for n in range(pool.max_connections)))
        assert answers == [b"%d" % n for n in range(pool.max_connections)]
    assert len(pinned.free) == pool.max_connections // 2
    with pytest.raises(ResponseError):
        await pinned.execute_command("NOSUCH")
    await office.redis.client_kill_filter(_type="normal", skipme=True)

    async def heals() -> bool:
        try:
            return bool(await pinned.execute_command("ECHO", "again") == b"again")
        except redis_module.AWAY:
            return False

    await eventually(heals)


async def test_an_office_that_closes_answers_whoever_was_under_way(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings
) -> None:
    """And one that never admitted anybody makes no admission in order to close it."""
    event = await open_sale(GA=10)
    told: list[Any] = []
    async with open_box_office(settings, redis_retries=3) as closing, open_box_office(settings) as idle:
        await closing.catalogue.refresh()
        for number in range(3):
            closing.admission.submit(CLIENT, order(event, GA=1), f"{number:032x}", told.append)
        assert told == []
    assert [type(answer) for answer in told] == 3 * [Admitted]
    assert "admission" not in vars(idle)


async def test_each_shard_has_its_backlog(office: BoxOffice) -> None:
    """A booking of the other one is looked at as soon as ever; so is one of a shard that nobody here serves."""
    office.admission.windows[SHARD].backlog.note(8_000, 9_000, CLOCK.now_s())
    pending = [ids.booking_id(shard, CLOCK.epoch_ms()) for shard in (SHARD, 1 - SHARD, len(office.shards))]
    assert [office.admission.pause_s(booking) for booking in pending] == [8, LEAST_S, LEAST_S]
