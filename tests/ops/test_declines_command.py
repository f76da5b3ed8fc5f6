"""`boxoffice declines`: an operator sees who tries out cards."""

from __future__ import annotations

import json

import pytest

from boxoffice import ids
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from tests.conftest import SHARD
from tests.ops.terminal import run
from tests.support.shop.orders import CLIENT

pytestmark = pytest.mark.usefixtures("terminal")


async def test_an_operator_looks(office: BoxOffice) -> None:
    """At those with most, or at one customer."""
    who = ids.owner_digest(CLIENT, "ada")
    counts = [f"o:{who}", 2, "o:other", 9, f"c:{CLIENT}", 11, f"C:{CLIENT}", 40]
    window_ms = 1_000 * office.settings.declines.window_s
    name = keys.declines(SHARD)
    await office.shards[SHARD].run("decline", declines=name, window_ms=window_ms, card_max=2, good="", counts=counts)
    code, said = await run("declines", "--json", "--top", "2")
    assert code == 0
    assert [(each["whose"], each["declined"], each["answered"], each["refused"]) for each in json.loads(said)] == [
        ("client", 11, 40, False), ("customer", 9, None, False)
    ]  # fmt: skip
    _, said = await run("declines", "--json", "--client", CLIENT, "--customer", "ada")
    assert [(each["name"], each["declined"]) for each in json.loads(said)] == [(who, 2)]
    _, said = await run("declines")
    assert "customer" in said and who in said and "40" in said


@pytest.mark.parametrize("half", [("--client", "shop"), ("--customer", "ada")])
async def test_a_customer_is_one_of_a_shop(half: tuple[str, str]) -> None:
    code, said = await run("declines", *half)
    assert code == 2 and "belong together" in said
