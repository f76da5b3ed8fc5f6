"""Scripts are called by the names of their slots, and a name that the header lacks is a mistake that shows at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores import shard as shard_module
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.scripts import load_scripts
from boxoffice.stores.shard import Shard, Shards, open_shards

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


def test_no_name_is_both_a_key_and_an_argument() -> None:
    for script in SCRIPTS:
        assert len(script.slots) == len(script.keys) + len(script.args), script.name


def home() -> Redis:
    """A client that connects to nobody."""
    return Redis(socket_connect_timeout=0.001)


async def test_a_shards_commands_go_to_its_own_redis() -> None:
    """However many there are: nobody outside of this module asks which."""
    wires: list[Any] = [home(), home()]
    shards = Shards([wires[0], wires[1], wires[0]], SCRIPTS)
    assert len(shards) == 3 and [shard.number for shard in shards] == [0, 1, 2]
    assert [shard.redis for shard in shards] == [wires[0], wires[1], wires[0]]
    assert shards.clients == tuple(wires)
    for shard in shards:
        sent: list[Any] = []

        async def execute(*args: Any, sent: list[Any] = sent) -> list[bytes]:
            sent.append(args)
            return [b"open"]

        for wire in wires:
            wire.execute_command = execute if wire is shard.redis else None
        await shard.run("wake", booking_id="bk")
        assert sent[0][3] == keys.pending(shard.number)
    assert shards.pinned(0) is shards.pinned(2)
    assert shards.pinned(0) is not shards.pinned(1)


def test_what_is_asked_of_several_shards_is_asked_of_each_redis_once() -> None:
    first, second = home(), home()
    shards = Shards([first, second, first], SCRIPTS)
    assert shards.by_redis(["2 b", "1 a", "0 c", "1 d"], lambda item: int(item[0])) == [
        (first, ["2 b", "0 c"]), (second, ["1 a", "1 d"]),
    ]  # fmt: skip
    assert shards.by_redis([], int) == []


@pytest.mark.parametrize("has", [0, 1, None])
async def test_a_key_may_be_looked_for_everywhere(has: int | None) -> None:
    wires: list[Any] = [home(), home()]
    for number, wire in enumerate(wires):

        async def exists(name: str, number: int = number) -> int:
            assert name == "key"
            return int(number == has)

        wire.exists = exists
    assert await Shards([wires[0], wires[0], wires[1]], SCRIPTS).anywhere("key") is (has is not None)


async def test_every_redis_is_closed_once() -> None:
    wires: list[Any] = [home(), home()]
    closed: list[int] = []
    for number, wire in enumerate(wires):

        async def aclose(number: int = number) -> None:
            closed.append(number)

        wire.aclose = aclose
    await Shards([*wires, wires[0]], SCRIPTS).aclose()
    assert closed == [0, 1]


def test_a_shard_that_nobody_serves_here_has_nothing() -> None:
    """Of a booking that was made elsewhere: its keys are asked for all the same."""
    wires = [home(), home()]
    beyond = Shards(wires, SCRIPTS)[7]
    assert (beyond.number, beyond.redis) == (7, wires[0])


def test_the_shards_of_the_settings_live_in_their_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def open_redis(settings: Settings, **options: Any) -> Redis:
        opened.append((settings.shards, options))
        return home()

    monkeypatch.setattr(shard_module, "open_redis", open_redis)
    shards = open_shards(Settings(shards=3), SCRIPTS, retries=2, timeout_s=1.5)
    assert (len(shards), len(shards.clients)) == (3, 1)
    assert shards.scripts is SCRIPTS
    assert opened == [(3, {"retries": 2, "timeout_s": 1.5})]


ROOT = Path(shard_module.__file__).parents[2]
OUTSIDE = [
    path for room in ("boxoffice", "api", "worker", "ops")
    for path in sorted((ROOT / room).rglob("*.py")) if "stores" not in path.parts
]  # fmt: skip


def test_nobody_else_makes_shards_or_has_an_offices_redis() -> None:
    """What is asked of a shard goes by the shard. The office's own property is for tests and benchmarks."""
    for path in OUTSIDE:
        text = path.read_text()
        assert not re.search(r"\b(Shard|Shards|Pinned|open_redis)\(", text), path
        assert not re.search(r"office\.redis\b", text), path


def test_each_shard_has_its_own() -> None:
    """Its keys, its ring, and it is made once."""
    shards = Shards([home()], SCRIPTS)
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
    """Slots are given by name; a call is laid out by the script alone."""
    root = Path(__file__).resolve().parents[3]
    by_hand = [
        f"{path.relative_to(root)}: {call}"
        for folder in ("api", "boxoffice", "worker", "ops")
        for path in (root / folder).rglob("*.py")
        for call in re.findall(r"\bscripts\.(\w+)\(|\bscripts\.\w+\.sha\b", path.read_text())
    ]
    assert by_hand == []
