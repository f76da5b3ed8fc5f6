"""Nothing is decided under a gate that is closed, or open for another run of the server than the one that is asked."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.errors import GateClosed, RunUnchecked
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate, look, open_gate
from boxoffice.stores.redis import run_id
from boxoffice.stores.scripts import load_scripts
from boxoffice.stores.shard import Shard
from tests.lua.test_rewind import rewind
from tests.lua.test_shrink import shrink
from tests.lua.test_states import VERBS, put
from tests.lua.test_tally import tally
from tests.support.shop.script import Desk, Form

DECIDE = {
    "admit",
    "cancel",
    "change",
    "claim",
    "confirm",
    "expire",
    "extend",
    "move",
    "pay",
    "read",
    "revive",
    "rewind",
    "settle",
    "shrink",
    "tally",
}
"""And one that is believed. The others repeat what PostgreSQL has decided (correct, load, reconcile, restore) or look for
what is lost (gather, wake), or open it (open)."""

GATES = {
    "closed": None,
    "another run": "first:0123456789abcdef0123456789abcdef01234567",
    "no run": "first:",
    "a gate from before there were runs": "first",
    "this run, and more": "first:{run}0",
    "a part of this run": "first:{part}",
    "a pattern that any run fits": "first:%x+",
}


def test_whatever_decides_has_the_gate_as_its_first_key() -> None:
    assert {script.name for script in load_scripts() if script.decides} == DECIDE


async def read(desk: Desk, form: Form) -> Any:
    return await desk.scripts.read(
        desk.redis, [keys.gate(desk.shard), keys.booking(desk.shard, form.id), keys.booking(desk.shard, "no")], []
    )


async def test_what_may_be_believed_is_read(desk: Desk) -> None:
    await desk.open_sale(floor=5)
    form = desk.form(floor=1)
    await desk.book(form)
    assert await read(desk, form) == [await desk.redis.get(keys.booking(desk.shard, form.id)), None]


@pytest.mark.parametrize("gate", GATES)
async def test_nothing_is_decided(desk: Desk, gate: str) -> None:
    """Whatever the booking's state: no script writes, and each says why."""
    value, run = GATES[gate], await run_id(desk.redis)
    verbs = [(verb, work) for verb, work in VERBS if verb != "wake"]
    verbs.append(("confirm", lambda desk, form: desk.confirm(form)))
    verbs.append(("read", read))
    verbs.append(("rewind", rewind))
    verbs.append(("shrink", lambda desk, form: shrink(desk, 1)))
    verbs.append(("tally", lambda desk, form: tally(desk, "floor")))
    assert {verb for verb, _ in verbs} == DECIDE
    await desk.open_sale(floor=5)
    form = desk.form(hold_ms=600_000, floor=1)
    await desk.book(form)
    for state, deadline_ms in (("H", 1), ("H", await desk.now_ms() + 600_000), ("P", 1), ("E", 1), ("C", 1)):
        await put(desk, form, state, "1", deadline_ms)
        if value is None:
            await desk.redis.delete(keys.gate(desk.shard))
        else:
            await desk.redis.set(keys.gate(desk.shard), value.format(run=run, part=run[:-1]))
        before = await desk.snapshot()
        for _verb, work in verbs:
            with pytest.raises(GateClosed) as refusal:
                await work(desk, form)
            assert isinstance(refusal.value, RunUnchecked) == (value is not None)
        assert await desk.snapshot() == before
        await desk.open_gate()


async def test_who_opens_lets_the_run_decide_and_forgets_the_bell(desk: Desk) -> None:
    """Nobody heard it while the gate was shut. Other shards' are left."""
    here, gate = Shard(desk.redis, desk.scripts, desk.shard), Gate("second", "7" * 40)
    await desk.redis.set(keys.bell(desk.shard), 1)
    await desk.redis.set(keys.bell(desk.shard + 1), 1)
    await open_gate(here, gate)
    assert Gate.parse(await desk.redis.get(keys.gate(desk.shard))) == gate
    bells = [await desk.redis.exists(keys.bell(shard)) for shard in (desk.shard, desk.shard + 1)]
    await desk.redis.delete(keys.bell(desk.shard + 1))
    assert bells == [0, 1]


async def test_looking_says_what_the_scripts_say(desk: Desk) -> None:
    assert (await look(Shard(desk.redis, desk.scripts, desk.shard))).word == "open"
    for value in filter(None, GATES.values()):
        await desk.redis.set(keys.gate(desk.shard), value.format(run="0" * 40, part="0"))
        assert (await look(Shard(desk.redis, desk.scripts, desk.shard))).word == "unchecked"
    await desk.redis.delete(keys.gate(desk.shard))
    assert (await look(Shard(desk.redis, desk.scripts, desk.shard))).word == "closed"


def test_a_gate_is_read_as_it_was_written() -> None:
    assert Gate.parse(Gate("generation", "run").pack().encode()) == Gate("generation", "run")
    assert Gate.parse(b"generation") == Gate("generation", "")
    assert Gate.parse(None) is None
