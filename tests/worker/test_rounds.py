"""The rounds of a worker: how often, for which shards, and what each does. No server is asked."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from boxoffice.clock import Clock
from boxoffice.errors import CannotRun, GateClosed
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.support.worker_parts import HOME, Calls
from worker import rounds as rounds_module
from worker.rounds import ROUNDS, Round, Rounds
from worker.stop import Stop


@pytest.mark.parametrize("shard", [0, 2])
async def test_a_sweep_is_of_one_shard(
    rounds: Rounds, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    """Late holds, then what is pending, then stock; last the events, so that one that cannot be loaded keeps nothing else."""
    monkeypatch.setattr(rounds_module, "apply_moves", calls.recorder("apply_moves"))
    await rounds.sweep(shard)
    assert calls == [
        ("holds.expire", shard),
        ("settlement.drain", shard),
        ("apply_moves", office.shards[shard], office.database),
        ("publish_unmirrored", shard),
    ]


async def test_a_sweep_of_a_closed_shard_does_nothing_more(rounds: Rounds, office: Any, calls: Calls) -> None:
    office.holds.expire = calls.recorder("holds.expire", error=GateClosed())
    await rounds.sweep(1)
    assert calls == [("holds.expire", 1)]


@pytest.mark.parametrize("error", [None, ValueError("planted")])
async def test_a_guard_looks_then_waits_for_its_own_shard(
    rounds: Rounds, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Also when the look failed: not at once again."""
    monkeypatch.setattr(rounds_module, "wait_until_called", calls.recorder("wait", False))
    office.guards[2].tick = calls.recorder("tick", error=error)
    if error is None:
        await rounds.guard(2)
    else:
        with pytest.raises(ValueError, match="planted"):
            await rounds.guard(2)
    assert calls == [("tick",), ("wait", "watcher 2", keys.unchecked(2), office.settings.worker.guard_ms / 1_000)]


async def test_who_misses_what_cannot_be_loaded_is_heard_ever_more_seldom(
    rounds: Rounds, office: Any, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard for itself; from the beginning again once something was loaded."""
    monkeypatch.setattr(rounds_module, "wait_until_called", calls.recorder("wait", True))
    office.guards[1].load = calls.recorder("load", 0)
    for _ in range(8):
        await rounds.load(1)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert calls[:2] == [("load",), ("wait", "watcher 1", keys.lacking(1), office.settings.worker.guard_ms / 1_000)]
    await rounds.load(0)
    office.guards[1].load = calls.recorder("load", 3)
    await rounds.load(1)
    office.guards[1].load = calls.recorder("load", 0)
    await rounds.load(1)
    assert pauses[8:] == [0.5, 0.5, 1]


async def test_when_nobody_misses_anything_it_begins_again(
    rounds: Rounds, office: Any, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "wait_until_called", calls.recorder("wait", True))
    for _ in range(3):
        await rounds.until_load(0, helped=False)
    now = iter([0.0, 29.0, 30.0])
    monkeypatch.setattr(rounds_module, "wait_until_called", calls.recorder("wait", False))
    office.clock = Clock(now_s=lambda: next(now))
    await rounds.until_load(0, helped=False)
    assert rounds.load_again_s == {}
    assert calls[-1][3] <= 1.0


async def test_a_worker_that_stops_waits_for_nobody_who_misses_something(
    rounds: Rounds, stop: Stop, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "wait_until_called", calls.recorder("wait", False))
    stop.begin()
    await rounds.until_load(0, helped=True)
    assert (calls, pauses, rounds.load_again_s) == ([], [0.5], {})


@pytest.mark.parametrize(("guard_ms", "steps"), [(60_000, [29.5]), (20_000, [20.0, 9.5])])
async def test_who_waits_to_be_asked_looks_around_now_and_then(
    rounds: Rounds,
    office: Any,
    stop: Stop,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    guard_ms: int,
    steps: list[float],
) -> None:
    """As often as a guard does, and half a minute in all, the pause before it included."""
    now = 100.0

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def wait(watcher: Any, key: str, seconds: float) -> bool:
        assert (watcher, key) == ("watcher 2", keys.lacking(2))
        calls.append((seconds,))
        await pass_time(seconds)
        return False

    worker = office.settings.worker.model_copy(update={"guard_ms": guard_ms})
    office.settings = office.settings.model_copy(update={"worker": worker})
    monkeypatch.setattr(stop, "pause", pass_time)
    monkeypatch.setattr(rounds_module, "wait_until_called", wait)
    office.clock = Clock(now_s=lambda: now)
    await rounds.until_load(2, helped=True)
    assert [seconds for (seconds,) in calls] == steps


async def test_a_worker_says_in_each_shard_what_it_counted_there(
    rounds: Rounds, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "beat", calls.recorder("beat"))
    reports = [SimpleNamespace(word="drift", event=f"concert {n}") for n in range(3)]
    office.guards[2].reconciler = SimpleNamespace(every_event=calls.recorder("every_event", reports))
    await rounds.count_drift(2)
    calls.clear()
    await rounds.beat(0)
    await rounds.beat(2)
    assert [(name, shard.number, said.drifted, said.counted_ms > 0) for name, shard, said in calls] == [
        ("beat", 0, 0, False),
        ("beat", 2, 3, True),
    ]
    assert {(said.host, said.pid, said.started_ms) for _, _, said in calls} == {
        (socket.gethostname(), os.getpid(), calls[0][2].started_ms)
    }


async def test_drift_is_counted_and_left_alone(rounds: Rounds, office: Any, calls: Calls) -> None:
    reports = [SimpleNamespace(word="well", event="concert"), SimpleNamespace(word="drift", event="theatre")]
    office.guards[2].reconciler = SimpleNamespace(every_event=calls.recorder("every_event", reports))
    with capture_logs() as said:
        await rounds.count_drift(2)
    assert calls == [("every_event", False)]
    assert said == [{"event": "drift.found", "shard": 2, "event_id": "theatre", "log_level": "error"}]


@pytest.mark.parametrize("trimmed", [{}, {"stock_moves": 3}])
async def test_trimming(
    rounds: Rounds, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, trimmed: dict[str, int]
) -> None:
    monkeypatch.setattr(rounds_module, "trim", calls.recorder("trim", trimmed))
    monkeypatch.setattr(rounds_module, "trim_webhooks", calls.recorder("trim_webhooks", {}))
    with capture_logs() as said:
        await rounds.trim_rows()
    assert calls == [
        ("trim", office.database, office.settings.worker.retention),
        ("trim_webhooks", office.database, office.settings.webhooks.retention_days),
    ]
    assert [(line["event"], line["stock_moves"]) for line in said] == ([("tables.trimmed", 3)] if trimmed else [])


async def test_couriers_go_to_endpoints(rounds: Rounds, calls: Calls) -> None:
    await rounds.notify_shops()
    assert calls == [("couriers.look",)]


async def test_notices_get_their_places(rounds: Rounds, office: Any, calls: Calls) -> None:
    office.notices = SimpleNamespace(number=calls.recorder("number", 3))
    await rounds.number()
    assert calls == [("number",)]


@pytest.mark.parametrize("weak", ["check_redis", "check_postgresql", "redis_rights", "postgres_rights", ""])
async def test_a_watch_asks_the_gateway_and_both_stores(
    rounds: Rounds, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, weak: str
) -> None:
    for name in ("check_redis", "check_postgresql"):
        error = CannotRun("appendonly no") if name == weak else None
        monkeypatch.setattr(rounds_module.durability, name, calls.recorder(name, error=error))
    of_rights = [("redis_rights", HOME, "worker"), ("postgres_rights", office.database, "worker")]
    for name in ("redis_rights", "postgres_rights"):
        error = CannotRun("zadd") if name == weak else None
        monkeypatch.setattr(getattr(rounds_module, name), "check_rights", calls.recorder(name, error=error))
    with capture_logs() as said:
        await rounds.watch()
    done = list(calls)
    both = [("check_redis", HOME, office.settings), ("check_postgresql", office.database, office.settings)]
    assert done == [
        ("gateway.trouble",), *(both[:1] if weak == "check_redis" else both), *of_rights, ("pump.say_what_others_owe",)
    ]  # fmt: skip
    assert [(line["event"], line["reason"]) for line in said] == (
        [("durability.weak", "appendonly no")] if weak.startswith("check") else []
    )


@pytest.mark.parametrize(
    ("name", "every_s", "pause_s", "after_s", "scope"),
    [
        ("guarding", 1.0, 0.0, 0.0, "shard"),
        ("loading", 30.0, 0.0, 0.0, "shard"),
        ("sweeping", 1.0, 1.0, 0.0, "shard"),
        ("calling_off", 1.0, 1.0, 0.0, "shard"),
        ("mending", 30.0, 30.0, 0.0, "shard"),
        ("reconciling", 300.0, 300.0, 30.0, "shard"),
        ("watching", 15.0, 15.0, 0.0, "process"),
        ("trimming", 60.0, 60.0, 60.0, "process"),
        ("numbering", 1.0, 1.0, 0.0, "process"),
        ("notifying", 0.25, 0.25, 0.0, "process"),
    ],
)
def test_how_often_each_round_is_gone(name: str, every_s: float, pause_s: float, after_s: float, scope: str) -> None:
    """Who waits to be asked waits by itself."""
    (row,) = (each for each in ROUNDS if each.name == name)
    worker = Settings().worker
    assert (row.every_s(worker), row.pause_s(worker), row.after_s, row.scope) == (every_s, pause_s, after_s, scope)


@pytest.mark.parametrize(
    ("name", "changes", "every_s"),
    [
        ("guarding", {"guard_ms": 2_500}, 2.5), ("sweeping", {"sweep_ms": 2_500}, 2.5),
        ("mending", {"lease_ms": 2_500}, 5.0), ("reconciling", {"reconcile_s": 2.5}, 2.5),
        ("notifying", {"webhooks_ms": 2_500}, 2.5),
    ],
)  # fmt: skip
def test_who_sets_an_interval(name: str, changes: dict[str, float], every_s: float) -> None:
    (row,) = (each for each in ROUNDS if each.name == name)
    assert row.every_s(Settings().worker.model_copy(update=changes)) == every_s


async def test_a_round_is_of_each_shard_or_of_the_process(rounds: Rounds) -> None:
    did: list[Any] = []

    async def shard(of: Rounds, number: int) -> None:
        did.append((of, number))

    async def process(of: Rounds) -> None:
        did.append(of)

    for row in (Round("a", "", 1, of_shard=shard), Round("b", "", 1, of_process=process)):
        for work in row.works(rounds, 3):
            await work()
    assert did == [(rounds, 0), (rounds, 1), (rounds, 2), rounds]


@pytest.mark.parametrize("shard", [0, 2])
async def test_a_shard_is_mended_by_its_own_mender(rounds: Rounds, calls: Calls, shard: int) -> None:
    await rounds.mend(shard)
    assert calls == [("mender.mend", shard)]
