"""What shops that listened have is held against their feeds and the tables (I15): planted differences are found, and nothing
else is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from boxoffice.wire.notices import notice_body
from ops.rush.audit import Witness
from ops.rush.findings import Findings
from ops.rush.http_client import HttpClient
from ops.rush.subscriber_checks import check_subscribers
from ops.rush.subscribers import Subscriber
from tests.conftest import CLIENT, KEY, OTHER, OTHER_KEY
from tests.ops.rush.conftest import Sold


@pytest.fixture
async def shops(sold: Sold) -> list[Subscriber]:
    """Two that have heard of everything: one sold, was refunded, and captured; of the other there is an event."""
    await sold.office.refunds.cancel(CLIENT, sold.confirmed)
    sold.history.entries[0].status = "cancelled"
    await sold.office.pump.work_outbox()
    notices = sold.office.notices
    await notices.number()
    found = []
    for client, key in ((CLIENT, KEY), (OTHER, OTHER_KEY)):
        shop = Subscriber(client, key, [HttpClient(1)], 1, 1.0, random.Random(1))
        for notice in (await notices.after(client, await notices.start(), most=1_000)).notices:
            body = notice_body(notice).decode()
            shop.server.taken[notice.id] = body
            shop.follower.copy.append(json.loads(body) | {"cursor": str(notice.cursor)})
        found.append(shop)
    assert len(found[0].server.taken) > 8 and found[1].server.taken
    return found


async def looked(sold: Sold, shops: list[Subscriber], lost: int | None = 0) -> list[str]:
    findings = Findings()
    pool = await sold.office.pool()
    await check_subscribers(sold.office.database, pool, shops, findings, lost=lost)
    (line,) = findings["I15"].looked_at
    assert line.endswith("notices of 2 shops")
    return findings["I15"].evidence


async def test_who_has_all_of_it_is_blamed_for_nothing(sold: Sold, shops: list[Subscriber]) -> None:
    assert await looked(sold, shops) == []
    findings = await sold.audit(Witness(sold.history, subscribers=shops))
    assert findings["I15"].held and "notices of 2 shops" in findings["I15"].looked_at[-1]
    shops[0].server.taken.popitem()
    assert "I15" in (await sold.audit(Witness(sold.history, subscribers=shops))).broken


def a_notice_never_came(shops: list[Subscriber]) -> None:
    shops[0].server.taken.popitem()


def one_of_anothers_came(shops: list[Subscriber]) -> None:
    shops[0].server.taken |= dict([shops[1].server.taken.copy().popitem()])


def one_came_that_says_otherwise(shops: list[Subscriber]) -> None:
    notice = next(iter(shops[0].server.taken))
    shops[0].server.taken[notice] += " "


def the_copy_lacks_one(shops: list[Subscriber]) -> None:
    del shops[0].follower.copy[1]


def the_copy_has_one_twice(shops: list[Subscriber]) -> None:
    shops[1].follower.copy.append(shops[1].follower.copy[-1])


def the_copy_says_otherwise(shops: list[Subscriber]) -> None:
    shops[1].follower.copy[0]["timestamp"] = "2030-01-01T00:00:00.000000Z"


def something_came_that_should_not(shops: list[Subscriber]) -> None:
    shops[0].server.faults.append("webhook n_1: no matching signature")


@pytest.mark.parametrize(
    "plant",
    [
        a_notice_never_came, one_of_anothers_came, one_came_that_says_otherwise, the_copy_lacks_one, the_copy_has_one_twice,
        the_copy_says_otherwise, something_came_that_should_not,
    ],
)  # fmt: skip
async def test_a_planted_difference_is_found(
    sold: Sold, shops: list[Subscriber], plant: Callable[[list[Subscriber]], object]
) -> None:
    plant(shops)
    assert await looked(sold, shops)
    assert await looked(sold, shops, lost=3), "no loss of PostgreSQL's explains it"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bookings SET status = 'confirmed', failure_code = NULL WHERE status = 'failed'",
        "UPDATE bookings SET failure_code = 'x' WHERE status = 'failed'",
        "UPDATE payments SET amount_cents = amount_cents + 1 WHERE status = 'captured'",
        "UPDATE payments SET status = 'voided' WHERE status = 'captured'",
        "UPDATE refunds SET status = 'pending'",
        "UPDATE refunds SET amount_cents = 1",
        "UPDATE events SET version = version + 1",
    ],
)
async def test_a_table_that_says_otherwise_is_found(sold: Sold, shops: list[Subscriber], statement: str) -> None:
    await sold.sql(statement)
    evidence = await looked(sold, shops)
    assert evidence and all("its own books say" in line for line in evidence), evidence


async def test_what_postgresql_lost_is_excused(sold: Sold, shops: list[Subscriber]) -> None:
    """A webhook of a commit that is gone, and a follower that had to begin anew."""
    shops[0].server.taken["n_9_9_0"] = "{}"
    shops[0].follower.anew = 1
    for lost in (2, None):
        assert await looked(sold, shops, lost=lost) == []
    assert len(await looked(sold, shops)) == 2
