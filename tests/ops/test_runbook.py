"""The runbook's restore of PostgreSQL, typed line by line from docs/operations.md, in its order."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, SHARD, SaleMaker, load_all
from tests.invariants.conftest import at_rest, working
from tests.ops.test_repair_commands import Terminal
from tests.support.past import Past
from tests.support.shop.office import Till

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def blocks() -> list[list[list[str]]]:
    """What is typed, block by block: the words behind `boxoffice`."""
    text = PAGE.read_text().split("To restore PostgreSQL, in this order", 1)[1].split("## Restart and upgrade", 1)[0]
    found = [block.split("\n") for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
    typed = [[shlex.split(line, comments=True) for line in block if line.strip()] for block in found]
    return [[words[words.index("boxoffice") + 1 :] for words in block] for block in typed]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("given_up", [False, True])
async def test_the_restore_of_the_runbook(office: BoxOffice, open_sale: SaleMaker, given_up: bool) -> None:
    """Written again, or given up: either way shops can read what became of their bookings, and the books agree."""
    write_again, give_up, afterwards = blocks()
    await load_all(office)
    till = Till(office, await open_sale(GA=20))
    await office.guards[SHARD].tick()
    kept = await till.book(GA=1)
    await till.rest()
    backup = Past(office)
    await backup.remember()
    lost, cancelled = await till.book(GA=2), await till.book(GA=3)
    await till.rest()
    await till.cancel(cancelled)
    await till.rest()
    await backup.come_back()
    terminal = Terminal(office)

    codes = [
        (await asyncio.to_thread(terminal.run, *line)).returncode for line in (give_up if given_up else write_again)
    ]
    assert codes == ([0, 0] if given_up else [0, 2])
    async with working(office):
        await at_rest(office)
        for line in afterwards:
            ran = await asyncio.to_thread(terminal.run, *line)
            assert ran.returncode == 0, ran.stdout + ran.stderr

    shown = {}
    for booking in (kept, lost, cancelled):
        view = (await office.bookings.get(CLIENT, booking)).view
        shown[booking] = view.status, view.failure.code if view.failure else None
    assert shown[kept] == ("confirmed", None)
    assert shown[lost] == (("failed", "withdrawn") if given_up else ("confirmed", None))
    assert shown[cancelled] == ("cancelled", "cancelled")
    assert (await till.payment(lost)).refunded_cents == (2_000 if given_up else 0)
    assert (await till.payment(cancelled)).refunded_cents == 3_000
