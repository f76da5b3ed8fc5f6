"""claim.lua, one test for each line of its Returns, and what keeps wake-ups from being lost."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from boxoffice.stores import keys
from boxoffice.stores.jobs import job_prefix
from tests.support.shop.script import Desk, Form


async def admitted(desk: Desk, count: int) -> list[Form]:
    """So many pending bookings."""
    await desk.open_sale(floor=10_000)
    forms = [desk.form(floor=1) for _ in range(count)]
    for start in range(0, count, 100):
        await desk.book(*forms[start : start + 100])
    return forms


async def rings(desk: Desk) -> int:
    """Rings so far."""
    return int(await desk.redis.get(keys.rings(desk.shard)) or 0)


async def test_nothing_due_claims_nothing_and_clears_the_bell(desk: Desk) -> None:
    """Whoever finds nothing to do hears the bell no longer: the next admission rings."""
    await desk.redis.set(keys.bell(desk.shard), "1")

    assert await desk.claim() == []

    assert not await desk.redis.exists(keys.bell(desk.shard))
    assert await rings(desk) == 0


async def test_a_claim_leases_what_is_due_with_its_records(desk: Desk) -> None:
    """Oldest first. What is claimed is nobody else's until the lease ends."""
    forms = await admitted(desk, 3)

    claimed = await desk.claim(lease_ms=60_000)

    assert sorted(id for id, _, _ in claimed) == sorted(form.id for form in forms)
    for id, lapses, raw in claimed:
        assert lapses == 0
        assert raw == await desk.redis.get(keys.booking(desk.shard, id))
    now = await desk.now_ms()
    for form in forms:
        due = await desk.redis.zscore(keys.pending(desk.shard), form.id)
        assert due is not None and now + 50_000 < due <= now + 60_001
    assert await desk.claim() == []


async def test_a_claim_takes_no_more_than_its_limit(desk: Desk) -> None:
    """The rest is left to the next claim, and nothing is claimed twice."""
    forms = await admitted(desk, 5)

    sizes, seen = [], set()
    for _ in range(4):
        claimed = await desk.claim(limit=2)
        sizes.append(len(claimed))
        seen |= {id for id, _, _ in claimed}

    assert sizes == [2, 2, 1, 0]
    assert seen == {form.id for form in forms}


async def test_a_lease_that_ended_is_claimed_again(desk: Desk) -> None:
    """Whoever held it died or hung; the next claim says how often that happened."""
    (form,) = await admitted(desk, 1)
    for lapses in range(3):
        ((id, told, _),) = await desk.claim(lease_ms=2)
        assert (id, told) == (form.id, lapses)
        await desk.wait_ms(3)


async def test_each_lapse_halves_the_claim(desk: Desk) -> None:
    """Until a booking that kills its workers is claimed alone."""
    await admitted(desk, 8)
    sizes = [8]
    while sizes[-1] > 1:
        sizes.append(len(await desk.claim(limit=8, lease_ms=2)))
        await desk.wait_ms(3)
        assert len(sizes) < 20

    assert sizes[:3] == [8, 8, 4], "all eight lapsed once"
    assert sizes == sorted(sizes, reverse=True)


async def test_fifteen_lapses_are_the_most_that_are_counted(desk: Desk) -> None:
    """The count fits into the fraction of a score beside the time."""
    (form,) = await admitted(desk, 1)
    await desk.redis.zadd(keys.pending(desk.shard), {form.id: 1_700_000_000_000 + 15 / 16})

    assert (await desk.claim(lease_ms=2))[0][1] == 15
    await desk.wait_ms(3)
    assert (await desk.claim(lease_ms=2))[0][1] == 15


async def test_a_record_that_is_gone_comes_back_empty(desk: Desk) -> None:
    """Its id is claimed all the same: whoever claims it parks it."""
    (form,) = await admitted(desk, 1)
    await desk.redis.delete(keys.booking(desk.shard, form.id))

    assert await desk.claim() == [(form.id, 0, b"")]


# ---------------------------------------------------------------------- the bell


async def test_a_claim_that_found_work_leaves_the_bell(desk: Desk) -> None:
    """The worker will come back, so whoever is admitted meanwhile need not ring."""
    await admitted(desk, 3)
    assert await rings(desk) == 1

    assert len(await desk.claim(limit=500)) == 3

    assert await desk.redis.exists(keys.bell(desk.shard))
    await desk.book(desk.form(floor=1))
    assert await rings(desk) == 1


async def test_an_admission_after_an_empty_claim_rings(desk: Desk) -> None:
    """Finding nothing and clearing the bell are one step, so no admission can come between them unheard."""
    await admitted(desk, 1)
    await desk.claim()
    assert await desk.claim() == []

    await desk.book(desk.form(floor=1))

    assert await rings(desk) == 2
    assert await desk.members(keys.arq_queue(desk.shard)) == [f"{job_prefix(desk.shard)}{n}" for n in (1, 2)]


async def test_a_full_claim_rings_for_a_second_worker(desk: Desk) -> None:
    """There may be more than one worker can do. The new ring has an id of its own."""
    await admitted(desk, 3)

    await desk.claim(limit=2)

    assert await rings(desk) == 2
    assert await desk.redis.exists(keys.bell(desk.shard))


async def test_a_full_claim_rings_nobody_when_told_so(desk: Desk) -> None:
    """Somebody who works alone."""
    await admitted(desk, 3)

    await desk.claim(limit=2, ring=False)

    assert await rings(desk) == 1


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_no_wake_up_is_lost_between_admissions_and_claims(desk: Desk) -> None:
    """However they interleave: when the last claim has come back empty, either nothing is pending or a bell is up."""
    await desk.open_sale(floor=10_000)
    admitting = True
    unheard = 0

    async def admit() -> None:
        for _ in range(100):
            await desk.book(desk.form(floor=1))

    async def work() -> None:
        nonlocal unheard
        while admitting:
            while claimed := await desk.claim():
                await asyncio.sleep(0)
                assert claimed
            # Due bookings and the bell in one look.
            due, bell = (
                await desk.redis.pipeline()
                .zcount(keys.pending(desk.shard), 0, await desk.now_ms())
                .exists(keys.bell(desk.shard))
                .execute()
            )
            unheard += bool(due and not bell)

    working = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.gather(*(admit() for _ in range(4)))
    admitting = False
    await asyncio.gather(*working)

    assert unheard == 0


@pytest.mark.parametrize("server", ["server"], indirect=True)
async def test_workers_that_claim_at_once_share_nothing(desk: Desk) -> None:
    """Each booking is leased to one of them."""
    forms = await admitted(desk, 200)

    claims = await asyncio.gather(*(desk.claim(limit=7) for _ in range(40)))

    ids = [id for claim in claims for id, _, _ in claim]
    assert len(ids) == len(set(ids)) == len(forms)


@pytest.mark.parametrize("key", ["pending", "rings", "arq_queue"])
async def test_a_key_of_a_wrong_type_claims_nothing_by_halves(desk: Desk, key: str) -> None:
    """The claim fails; whatever was leased meanwhile is still pending, and its lease ends."""
    forms = await admitted(desk, 2)
    name = getattr(keys, key)(desk.shard)
    await desk.redis.delete(name)
    await desk.redis.lpush(name, "planted")  # type: ignore[misc]

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await desk.claim(limit=2)

    if key != "pending":
        assert await desk.pending() == sorted(form.id for form in forms)
    for form in forms:
        assert await desk.has(form, "P")


async def test_who_was_admitted_while_the_clock_was_ahead_is_due(desk: Desk) -> None:
    """Redis's clock was ten minutes ahead for a while: nobody waits for it to be right again. A lapse is remembered."""
    await desk.open_sale(floor=5)
    admitted, leased, waiting = (desk.form(floor=1) for _ in range(3))
    await desk.book(admitted, leased, waiting)
    now = await desk.now_ms()
    scores = {admitted.id: now + 600_000, leased.id: now + 615_000 + 1 / 16, waiting.id: now + 30_000}
    await desk.redis.zadd(keys.pending(desk.shard), scores)

    claimed = await desk.claim(lease_ms=15_000)

    assert {(booking, lapses) for booking, lapses, _ in claimed} == {(admitted.id, 0), (leased.id, 1)}
    assert await desk.redis.zscore(keys.pending(desk.shard), waiting.id) == now + 30_000
