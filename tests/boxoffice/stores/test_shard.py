"""Scripts are called by the names of their slots, and a name that the header lacks is a mistake that shows at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.scripts import load_scripts
from boxoffice.stores.shard import Shard, Shards

SCRIPTS = load_scripts()


class Wire:
    """Keeps what it is sent."""

    sent: tuple[Any, ...] = ()

    async def execute_command(self, *args: Any) -> Any:
        self.sent = args
        return [b"open"]


def shard(wire: Any = None, number: int = 3) -> Shard:
    return Shard(wire, SCRIPTS, number)


async def test_what_is_given_by_name_stands_in_the_order_of_the_header() -> None:
    """Whatever the order in which it is given; the shard adds its own keys and its bell."""
    wire = Wire()
    assert await shard(wire).run("cancel", ttl_s=60, owners="own", sale="sale", idempotency="idem", record="bk",
                                 brief_ttl_s=3, unpaid_max=2, unpaid_ttl_s=1) == [b"open"]  # fmt: skip
    assert wire.sent == (
        "EVALSHA", SCRIPTS.cancel.sha, 10, keys.gate(3), "bk", "idem", "sale", "own", keys.pending(3), keys.deadlines(3),
        keys.bell(3), keys.rings(3), keys.arq_queue(3), 60, BELL_TTL_MS, pack_ring(3), job_prefix(3), 1, 2, 3,
    )  # fmt: skip


def test_the_last_slot_takes_the_rest() -> None:
    call = shard().call("settle", keys=["a", "b", "c"], ttl_s=1, pair="", events=1, verdicts=[b"x", b"y"])
    own = [keys.gate(3), keys.pending(3), keys.dead(3), keys.deadlines(3), keys.told(3)]
    assert (call.keys, call.args) == ([*own, "a", "b", "c"], [1, "", 1, b"x", b"y"])
    none = shard().call("gather", records=())
    assert (none.keys, none.args) == ([keys.pending(3), keys.dead(3), keys.deadlines(3)], [])


def test_what_a_shard_knows_may_be_given_otherwise() -> None:
    assert shard().call("extend", gate="another", record="bk", extra_ms=5).keys == ["another", "bk", keys.deadlines(3)]


@pytest.mark.parametrize(
    ("slots", "says"),
    [({"record": "bk"}, "extend.lua needs 'extra_ms'"), ({"extra_ms": 5}, "extend.lua needs 'record'"),
     ({"record": "bk", "extra_ms": 5, "sale": "s"}, "extend.lua has no slot sale"),
     # The shard has it, and this script does not take it.
     ({"record": "bk", "extra_ms": 5, "bell": "s", "told": "t"}, "extend.lua has no slot bell, told")],
)  # fmt: skip
def test_another_name_is_a_mistake(slots: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError) as raised:
        shard().call("extend", **slots)
    assert str(raised.value) == says


def test_another_script_is_a_mistake() -> None:
    with pytest.raises(AttributeError, match="prolong"):
        shard().call("prolong", record="bk")


def test_an_order_is_checked_once() -> None:
    script = SCRIPTS.wake
    assert script.ordered("pending bell rings queue", "booking_id bell_ttl_ms job job_prefix") is script
    for names in (
        ("bell pending rings queue", "booking_id bell_ttl_ms job job_prefix"),
        ("pending bell rings queue", "booking_id bell_ttl_ms job"),
    ):
        with pytest.raises(TypeError, match=r"wake\.lua has other slots: pending bell"):
            script.ordered(*names)


def test_no_name_is_both_a_key_and_an_argument() -> None:
    for script in SCRIPTS:
        assert len(script.slots) == len(script.keys) + len(script.args), script.name


def test_each_shard_has_its_own() -> None:
    """Its keys, its ring, and it is made once."""
    shards = Shards(None, SCRIPTS)  # type: ignore[arg-type]
    assert shards[1] is shards[1]
    for number in (0, 1, 4_095):
        call = shards[number].call("wake", booking_id="bk")
        assert call.keys == [keys.pending(number), keys.bell(number), keys.rings(number), keys.arq_queue(number)]
        assert call.args == ["bk", BELL_TTL_MS, pack_ring(number), job_prefix(number)]
        claim = shards[number].call("claim", limit=1, lease_ms=2, ring_on=1)
        assert claim.args[2] == keys.booking(number, "")
        assert shards[number].call("expire", limit=1, ttl_s=1, unpaid_ttl_s=1, unpaid_max=1, brief_ttl_s=1).args[2] == (
            keys.shard_tag(number)
        )


def test_nobody_else_counts_slots() -> None:
    """Whoever calls a script positionally has had its order checked by `ordered`."""
    root = Path(__file__).resolve().parents[3]
    by_hand = [
        f"{path.relative_to(root)}: {call}"
        for folder in ("api", "boxoffice", "worker", "ops")
        for path in (root / folder).rglob("*.py")
        for call in re.findall(r"\bscripts\.(\w+)\(|\bscripts\.\w+\.sha\b", path.read_text())
    ]
    assert by_hand == []
