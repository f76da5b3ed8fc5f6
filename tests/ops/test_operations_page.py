"""The lines of docs/operations.md, by the course of a sale, typed one after the other."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER
from worker.rounds import Rounds
from worker.stop import Stop

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"

SECTIONS = ("Weeks before the sale", "The hour before", "During the sale", "After the sale")

ELSEWHERE = {("rush",): "tests/ops/rush/test_run.py", ("status", "--watch"): "tests/ops/test_status_command.py"}
"""Lines that take long, or never end."""

FINDS_NOTHING = ("bookings", "find")
"""Exit code 1 says so."""

pytestmark = pytest.mark.usefixtures("terminal")


def lines(section: str) -> list[list[str]]:
    """What is typed there: the words behind `boxoffice`, as far as they are its own."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    typed = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line]
    words = [shlex.split(line, comments=True) for line in typed]
    assert all(found[0] == "boxoffice" for found in words)
    return [list(takewhile(lambda word: word not in ("|", "||", ">"), found[1:])) for found in words]


def test_the_page_follows_a_sale() -> None:
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.M)
    at = headings.index(SECTIONS[0])
    assert tuple(headings[at : at + len(SECTIONS)]) == SECTIONS
    assert all(lines(section) for section in SECTIONS)


async def test_every_line_does_what_it_says(
    office: BoxOffice, open_sale: SaleMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await load_all(office)
    rounds = Rounds(office, office.shards, Stop())
    till = Till(office, await open_sale(GA=200, VIP=5))
    bookings = [await till.book(GA=2, reference="order-10042") for _ in range(4)]
    await till.rest()
    key = await office.access.create_api_key(CLIENT)
    named = {
        "EVENT": till.event.id, "CLIENT": CLIENT, "SHOP": OTHER, "TIER": till.event.tiers[0].id, "CUSTOMER": "grace",
        "PREFIX": key.partition(".")[0],
    }  # fmt: skip
    its_own = iter(bookings)

    def filled(line: list[str]) -> Iterator[str]:
        for word in line:
            if word == "ID":
                yield next(its_own) if line[0] == "bookings" else till.event.id
            else:
                yield named.get(word, word)

    for line in (line for section in SECTIONS for line in lines(section)):
        if "ALLOCATION" in line:
            _, listed = await run("allocations", "list", till.event.id, "--json")
            named["ALLOCATION"] = json.loads(listed)[0]["id"]
        if any(set(skipped) <= {*line} for skipped in ELSEWHERE):
            continue
        for shard in office.shards:
            await rounds.beat(shard.number)
        code, said = await run(*filled(line))
        assert code == 0 or (code == 1 and tuple(line[:2]) == FINDS_NOTHING), f"{' '.join(line)}: {code} {said}"
        await till.rest()
    assert (tmp_path / "bookings.csv").read_text().count("order-10042") == 4
