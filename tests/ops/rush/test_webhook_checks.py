"""What the gateway says happened, held against the webhooks that were taken in, and these against what was answered."""

from __future__ import annotations

import pytest

from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.gateway.simulator.signing import event_of
from ops.rush.audit import Witness
from tests.ops.rush.conftest import Plant, Sold


async def heard(sold: Sold) -> Tally:
    """Every webhook that the gateway's steps make, taken in."""
    lines = [line.split(" ") for line in (sold.office.settings.data_dir / "gateway.ledger").read_text().splitlines()]
    events = [event for key, word, _, _ in lines if (event := event_of(key, word))]
    for event in events:
        await sold.office.webhooks.receive("simulator", event)
    return Tally(events=len(events), heard=len(events), repeats=1)


async def a_webhook_of_nothing(sold: Sold) -> None:
    await sold.sql("UPDATE webhook_events SET kind = 'refunded' WHERE kind = 'declined'")


async def an_answered_webhook_is_gone(sold: Sold) -> None:
    await sold.sql("DELETE FROM webhook_events WHERE kind = 'declined'")


async def money_was_taken_twice(sold: Sold) -> None:
    ledger = sold.office.settings.data_dir / "gateway.ledger"
    captured = next(line for line in ledger.read_text().splitlines() if " C:" in line)
    with ledger.open("a") as file:
        file.write(f"{captured}\n")


async def test_webhooks_are_counted(sold: Sold) -> None:
    """Two were confirmed and captured, one declined; one delivery was a repeat."""
    tally = await heard(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally))

    assert findings["I6"].evidence == []
    assert findings["I6"].looked_at[-1] == "5 webhooks taken in of 5, 1 came again"


@pytest.mark.parametrize("plant", [a_webhook_of_nothing, an_answered_webhook_is_gone, money_was_taken_twice])
async def test_what_webhooks_tell_is_held_against_the_gateway(sold: Sold, plant: Plant) -> None:
    tally = await heard(sold)
    await plant(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally))

    assert findings.broken == ["I6"]


@pytest.mark.parametrize(("lost", "broken"), [(0, ["I6"]), (1, []), (None, [])])
async def test_as_many_webhooks_may_be_gone_as_commits_were_lost(
    sold: Sold, lost: int | None, broken: list[str]
) -> None:
    tally = await heard(sold)
    await an_answered_webhook_is_gone(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally, commits_lost=lost))

    assert findings.broken == broken
    assert "1 were lost with PostgreSQL's last commits" in findings["I6"].looked_at[-1]


async def test_a_webhook_too_many_is_never_excused(sold: Sold) -> None:
    tally = await heard(sold)
    await a_webhook_of_nothing(sold)

    assert (await sold.audit(Witness(sold.history, tally=tally, commits_lost=None))).broken == ["I6"]
