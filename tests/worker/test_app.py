"""What a worker does at once, for which shards, how often, and what it does when a part of it fails. No server is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun, GateClosed
from boxoffice.settings import Settings, TelemetrySettings
from boxoffice.telemetry.metrics import REGISTRY
from tests.support.worker_parts import HOME, SHARDS, Calls, homes
from worker import app as worker_app
from worker.app import WorkerApp
from worker.stop import Stop


@pytest.fixture
def app(office: Any) -> WorkerApp:
    return WorkerApp(office)


async def test_everything_is_done_for_every_shard(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as often as the settings say."""
    kept: dict[str, list[tuple[Any, float, float]]] = {}
    heard: list[int] = []

    async def supervise(what: str, work: Any, every_s: float, after_s: float = 0) -> None:
        kept.setdefault(what, []).append((work, every_s, after_s))
        await asyncio.Event().wait()

    async def hear(_office: Any, shard: int, _stop: Stop) -> None:
        heard.append(shard)
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "supervise", supervise)
    monkeypatch.setattr(worker_app, "hear", hear)
    running = asyncio.create_task(app.work(homes(*["watcher"] * SHARDS)))
    while "trimming" not in kept:
        await asyncio.sleep(0)
    app.stop()
    async with asyncio.timeout(30):
        await running

    worker = office.settings.worker
    assert heard == [0, 1, 2]
    times = {what: {(every_s, after_s) for _, every_s, after_s in works} for what, works in kept.items()}
    assert times == {
        "guarding": {(0, 0)},
        "loading": {(0, 0)},
        "sweeping": {(worker.sweep_ms / 1_000, 0)},
        "numbering": {(worker.sweep_ms / 1_000, 0)},
        "notifying": {(worker.webhooks_ms / 1_000, 0)},
        "calling_off": {(worker.sweep_ms / 1_000, 0)},
        "mending": {(2 * worker.lease_ms / 1_000, 0)},
        "reconciling": {(worker.reconcile_s, 30)},
        "watching": {(15, 0)},
        "beating": {(2, 0)},
        "summing": {(1, 0)},
        "trimming": {(60, 60)},
    }
    for what in ("guarding", "loading", "sweeping", "reconciling"):
        assert [work.args[1] for work, _, _ in kept[what]] == [0, 1, 2], what
    assert [len(kept[what]) for what in ("watching", "trimming", "numbering")] == [1, 1, 1]
    for work, _, _ in kept["mending"]:
        await work()
    assert [call for call in calls if call[0] == "mender.mend"] == [("mender.mend", shard) for shard in range(SHARDS)]
    assert [call for call in calls if call[0] == "settlement.stop"] == [
        ("settlement.stop", shard) for shard in range(SHARDS)
    ]


async def test_a_task_that_ends_ends_the_worker(app: WorkerApp, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives back first what it has, and ends the other loops."""
    cancelled: list[int] = []

    async def hear(_office: Any, shard: int, _stop: Stop) -> None:
        if shard == 1:
            raise MemoryError("planted")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(shard)
            raise

    async def supervise(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_app, "hear", hear)
    monkeypatch.setattr(app, "supervise", supervise)
    with capture_logs() as said, pytest.raises(CannotRun, match="'hearing' has ended"):
        await app.work(homes(*["watcher"] * SHARDS))

    (line,) = [line for line in said if line["event"] == "worker.task_ended"]
    assert (line["task"], line["cancelled"], repr(line["exc_info"])) == ("hearing", False, "MemoryError('planted')")
    assert sorted(cancelled) == [0, 2]
    assert [call[0] for call in calls].count("settlement.stop") == SHARDS


async def test_captures_that_do_not_end_are_told(app: WorkerApp, office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    async def wait(_tasks: Any, timeout: float | None = None) -> None:
        waits.append(timeout)

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "wait", wait)
    pump = asyncio.create_task(hangs())
    with pytest.raises(TimeoutError):
        await app.wind_up([pump])
    assert waits == [10]
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    await app.wind_up([pump])

    async def broken() -> None:
        raise ValueError("planted")

    pump = asyncio.create_task(broken())
    await asyncio.gather(pump, return_exceptions=True)
    with pytest.raises(ValueError, match="planted"):
        await app.wind_up([pump])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CannotRun("its reason"), {"event": "work.failed", "error": "CannotRun", "reason": "its reason", "log_level": "error"}),
        (RedisAway(), {"event": "work.failed", "waits_for": "redis", "error": "ConnectionError", "log_level": "warning"}),
        (GateClosed(), {"event": "work.failed", "waits_for": "gate", "error": "GateClosed", "log_level": "warning"}),
        (ValueError("ours"), {"event": "work.failed", "log_level": "error"}),
    ],
)  # fmt: skip
async def test_a_loop_outlives_what_its_work_raises(
    app: WorkerApp, office: Any, pauses: list[float], error: Exception, line: dict[str, Any]
) -> None:
    renewed: list[Exception] = []

    async def renew(error: Exception) -> None:
        renewed.append(error)

    office.database.renew = renew
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            app.stop()
        if rounds == 1:
            raise error

    with capture_logs() as said:
        await app.supervise("work", work, 7, 5)
    assert (rounds, pauses) == (3, [5, 7, 7, 7])
    assert [{name: entry[name] for name in line} for entry in said] == [line]
    assert renewed == ([error] if isinstance(error, RedisAway | GateClosed) else [])


@pytest.mark.parametrize("guard_ms", [50, 4_000])
async def test_a_guards_own_connection_waits_a_second_longer_than_it_is_asked_to(
    app: WorkerApp, office: Any, monkeypatch: pytest.MonkeyPatch, guard_ms: int
) -> None:
    """It is closed when the work ends, however it ends."""
    opened: list[tuple[Any, ...]] = []
    watched: list[Any] = []

    class Watcher:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    watcher = Watcher()

    def open_shards(settings: Settings, scripts: Any, *, timeout_s: float) -> Watcher:
        assert scripts == "the scripts"
        opened.append((settings, timeout_s))
        return watcher

    async def work(redis: Any) -> None:
        watched.append(redis)
        raise ValueError("planted")

    async def nothing() -> None: ...

    office.settings = office.settings.model_copy(
        update={"worker": office.settings.worker.model_copy(update={"guard_ms": guard_ms})}
    )
    monkeypatch.setattr(worker_app, "open_shards", open_shards)
    monkeypatch.setattr(app, "check_servers", nothing)
    monkeypatch.setattr(app, "work", work)
    with pytest.raises(ValueError, match="planted"):
        await app.run()
    assert opened == [(office.settings, guard_ms / 1_000 + 1.0)]
    assert (watched, watcher.closed) == ([watcher], True)


def test_what_an_operator_sees_of_a_worker() -> None:
    """The exit code is documented; the waits decide how soon a supervisor starts another."""
    assert (worker_app.TASK_ENDED, worker_app.END_S, worker_app.REDIS_RETRIES) == (3, 10, 20)
    assert (worker_app.BOOKS_S, worker_app.GUARD_OVERDUE_S) == (3, 1)


@pytest.mark.parametrize("waits", [True, False])
async def test_who_stops_ends_a_pause(app: WorkerApp, waits: bool) -> None:
    """And a pause that nobody ends is over in its time."""
    if waits:
        asyncio.get_running_loop().call_soon(app.stop)
    async with asyncio.timeout(30):
        await app.stopping.pause(60 if waits else 0.01)


async def test_a_worker_says_what_it_waits_for(
    app: WorkerApp, pauses: list[float], monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    monkeypatch.setattr(worker_app.durability, "say_what_is_stated", lambda _: None)

    async def away(*_: Any) -> None:
        app.stop()
        raise RedisAway

    monkeypatch.setattr(worker_app.redis_rights, "check_rights", away)
    with capture_logs() as said:
        await app.check_servers()
    assert said == [
        {"event": "worker.waiting", "waits_for": "redis", "error": "ConnectionError", "log_level": "warning"}
    ]
    assert pauses == [0.5]


async def test_a_worker_waits_for_the_stores_and_looks_at_everything(
    app: WorkerApp, office: Any, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app.durability, "say_what_is_stated", lambda _: calls.append(("stated",)))
    monkeypatch.setattr(worker_app.durability, "check_redis", calls.recorder("redis", error=RedisAway()))
    monkeypatch.setattr(worker_app.redis, "run_id", calls.recorder("run_id"))
    monkeypatch.setattr(worker_app.redis_rights, "check_rights", calls.recorder("rights"))
    monkeypatch.setattr(worker_app.postgres_rights, "check_rights", calls.recorder("rights of rows"))
    monkeypatch.setattr(worker_app.postgres, "check_schema", calls.recorder("schema"))
    monkeypatch.setattr(worker_app.durability, "check_postgresql", calls.recorder("postgresql"))
    monkeypatch.setattr(worker_app.durability, "check_shards", calls.recorder("shards"))
    checking = asyncio.create_task(app.check_servers())
    while len(pauses) < 3:
        await asyncio.sleep(0)
    assert set(pauses) == {0.5}
    monkeypatch.setattr(worker_app.durability, "check_redis", calls.recorder("redis"))
    await checking
    done = [call[0] for call in calls if call[0] != "stated"]
    assert done[-8:] == [
        "rights", "redis", "run_id", "rights of rows", "schema", "postgresql", "shards", "gateway.trouble"
    ]  # fmt: skip
    assert ("rights", HOME, "worker") in calls
    assert ("rights of rows", office.database, "worker") in calls
    assert calls[0] == ("stated",)

    monkeypatch.setattr(worker_app.durability, "check_shards", calls.recorder("shards", error=CannotRun("of shards")))
    with pytest.raises(CannotRun, match="of shards"):
        await app.check_servers()
    app.stop()
    await app.check_servers()


@pytest.mark.parametrize("error", [None, CannotRun("planted")])
async def test_a_worker_outlives_a_restart_of_redis_and_ends_when_it_cannot_run(
    office: Any, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Should something hang while it is closed, the process ends all the same, with a code of its own. It counts what it does
    when its settings say so."""
    opened: list[dict[str, Any]] = []
    counts: list[bool] = []
    monkeypatch.setattr(REGISTRY, "counts", REGISTRY.counts)
    office.settings = office.settings.model_copy(update={"telemetry": TelemetrySettings(count=error is None)})
    later: list[tuple[Any, ...]] = []

    @contextlib.asynccontextmanager
    async def open_box_office(settings: Settings, **options: Any) -> AsyncIterator[Any]:
        opened.append(options | {"settings": settings})
        yield office

    async def run(app: WorkerApp) -> None:
        counts.append(REGISTRY.counts)
        signal.raise_signal(signal.SIGTERM)
        await app.stopping.wait()
        if error is not None:
            raise error

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(worker_app, "open_box_office", open_box_office)
    monkeypatch.setattr(WorkerApp, "run", run)
    monkeypatch.setattr(worker_app, "gc", SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None))
    monkeypatch.setattr(type(loop), "call_later", lambda _, *arguments: later.append(arguments), raising=False)
    try:
        with pytest.raises(CannotRun) if error else contextlib.nullcontext():
            await worker_app.main(office.settings)
    finally:
        monkeypatch.undo()
        for signum in (signal.SIGTERM, signal.SIGINT):
            assert loop.remove_signal_handler(signum)

    assert opened == [{"settings": office.settings, "redis_retries": worker_app.REDIS_RETRIES}]
    assert counts == [error is None]
    assert later == ([(worker_app.END_S, os._exit, worker_app.TASK_ENDED)] if error else [])


async def test_a_worker_that_is_stopped_before_it_is_ready_does_no_work(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_watcher: Any) -> None:
        raise AssertionError("it works")

    monkeypatch.setattr(worker_app.durability, "say_what_is_stated", lambda _: None)
    monkeypatch.setattr(app, "work", work)
    app.stop()
    with capture_logs() as said:
        await app.run()
    assert [line["event"] for line in said] == ["worker.stopped"]
