"""What tells a repeat from a new booking: one command for many, and nobody is told what was read before it asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisGone
from structlog.testing import capture_logs

from boxoffice.admission import first_uses as module
from boxoffice.admission.first_uses import FirstUses
from boxoffice.office import BoxOffice
from boxoffice.stores import keys
from boxoffice.stores.shard import Shard
from boxoffice.telemetry import request_id
from tests.conftest import SHARD

GATE = keys.gate(SHARD)


def named_in(command: tuple[Any, ...]) -> tuple[Any, ...]:
    """The names that a call of read.lua asks for, behind the gate of the shard."""
    verb, _, count, gate, *names = command
    assert (verb, gate, count) == ("EVALSHA", GATE, 1 + len(names))
    return tuple(names)


@pytest.fixture
def here(office: BoxOffice) -> Shard:
    return office.shards[SHARD]


class Slow:
    """Answers when the test says so: `used` are there."""

    def __init__(self, *used: str) -> None:
        self.used = set(used)
        self.commands: list[tuple[Any, ...]] = []
        self.may = asyncio.Event()
        self.named = b""

    async def execute_command(self, *args: Any) -> Any:
        self.commands.append(named_in(args))
        self.named = request_id.now()
        found = [b"a booking" if name in self.used else None for name in named_in(args)]
        await self.may.wait()
        return found


async def test_all_of_a_turn_share_a_command_and_who_comes_later_the_next(here: Shard) -> None:
    """Each is told its own."""
    redis = Slow("b", "d")
    uses, told = FirstUses(redis, here), dict[str, bool]()
    for name in ("a", "b"):
        uses.ask(name, lambda used, name=name: told.update({name: used}))
    await asyncio.sleep(0)
    for name in ("c", "d"):
        uses.ask(name, lambda used, name=name: told.update({name: used}))
    redis.used.add("a")
    redis.may.set()
    await uses.drained()
    assert redis.commands == [("a", "b"), ("c", "d")]
    assert told == {"a": False, "b": True, "c": False, "d": True}


async def test_a_command_is_bounded_and_sent_in_the_name_of_none(here: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    redis = Slow()
    redis.may.set()
    request_id.current.set(b"somebody")
    uses, told = FirstUses(redis, here), list[bool]()
    for name in "abcde":
        uses.ask(name, told.append)
    await uses.drained()
    assert [len(command) for command in redis.commands] == [2, 2, 1]
    assert told == [False] * 5 and redis.named == b""


@pytest.mark.parametrize(("came", "said"), [
    (RedisGone(), []), (OSError(), []), (b"closed", []), (b"unchecked", []), (ValueError(), ["admission.failed"]),
    ([], ["admission.failed"]), (5, ["admission.failed"]),
])  # fmt: skip
async def test_while_nobody_can_say_everybody_may_be_a_repeat(here: Shard, came: Any, said: list[str]) -> None:
    """The script is asked then, and has a word for it: while Redis does not answer, or may not be believed, and when it answers
    what nobody foresaw."""

    class Odd:
        async def execute_command(self, *_: Any) -> Any:
            if isinstance(came, Exception):
                raise came
            return [came] if isinstance(came, bytes) else came

    uses, told = FirstUses(Odd(), here), list[bool]()
    with capture_logs() as lines:
        for name in "ab":
            uses.ask(name, told.append)
        await uses.drained()
    assert told == [True, True]
    assert [line["event"] for line in lines if line["event"].startswith("admission")] == said


async def test_when_a_command_is_cut_off_all_are_told_all_the_same(
    here: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who were asked about, that nobody knows; those who wait, by the next."""
    monkeypatch.setattr(module, "AT_ONCE", 2)

    class Cut(Slow):
        async def execute_command(self, *args: Any) -> Any:
            if not self.commands:
                self.commands.append(named_in(args))
                raise asyncio.CancelledError
            return await super().execute_command(*args)

    redis = Cut()
    redis.may.set()
    uses, told = FirstUses(redis, here), list[bool]()
    for name in "abc":
        uses.ask(name, told.append)
    await uses.drained()
    assert redis.commands == [("a", "b"), ("c",)] and told == [True, True, False]


async def test_one_that_cannot_be_told_keeps_nobody_from_being_told(here: Shard) -> None:
    redis = Slow()
    redis.may.set()
    uses, told = FirstUses(redis, here), list[bool]()

    def fails(_: bool) -> None:
        raise OSError("gone")

    with capture_logs() as said:
        uses.ask("a", fails)
        uses.ask("b", told.append)
        await uses.drained()
    assert told == [False] and [line["event"] for line in said] == ["admission.untold"]


async def test_a_first_use_is_found_in_its_shard(office: BoxOffice) -> None:
    name = keys.idempotency(SHARD, "a" * 32)
    await office.redis.set(name, "some booking")
    told = list[bool]()
    for each in (name, keys.idempotency(SHARD, "b" * 32)):
        office.admission.windows[SHARD].first_uses.ask(each, told.append)
    await office.admission.windows[SHARD].first_uses.drained()
    assert told == [True, False]


@pytest.mark.parametrize("gate", [None, "first:0123456789abcdef0123456789abcdef01234567"])
async def test_a_server_that_may_have_forgotten_is_not_believed(
    office: BoxOffice, here: Shard, gate: str | None
) -> None:
    """A restart, or a replica that was promoted and lacks the last bookings, says of none that it was used."""
    if gate is None:
        await office.redis.delete(GATE)
    else:
        await office.redis.set(GATE, gate)
    told = list[bool]()
    office.admission.windows[SHARD].first_uses.ask(keys.idempotency(SHARD, "c" * 32), told.append)
    await office.admission.windows[SHARD].first_uses.drained()
    assert told == [True]
