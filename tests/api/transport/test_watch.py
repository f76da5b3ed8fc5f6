"""What a server looks after ten times a second, without a network: deadlines, descriptors, memory."""

from __future__ import annotations

import asyncio
import errno
import resource
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from structlog.testing import capture_logs

from api.transport import watch
from api.transport.connection import Connection
from api.transport.watch import Server, room_for
from boxoffice.telemetry.seldom import seldom
from tests.support.telling import gauge


async def _app(*_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(uvicorn.Config(_app, lifespan="off", log_config=None), drain_s=3.0)


class Looked(Connection):
    """A connection that only notes when it was looked at."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(now)


async def test_every_fifth_tick_each_connection_is_looked_at(server: Server) -> None:
    """Those that are of our kind."""
    ours, other = [Looked(), Looked()], object()
    server.server_state.connections = {*ours, other}  # type: ignore[assignment]
    for tick in range(1, 11):
        await server.on_tick(tick)
    assert [len(each.looks) for each in ours] == [2, 2]
    assert gauge("http_connections") == 3


class Slices:
    """A loop that looks on when the test says so, and a clock that only looks move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.later, self.looked = 7.0, [], []  # type: ignore[var-annotated]
        loop = SimpleNamespace(time=lambda: self.now, call_later=lambda *told: self.later.append(told))
        monkeypatch.setattr(watch, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.now))

    def others(self, count: int, takes_s: float = 0.0) -> set[Any]:
        """So many connections, each of which is looked at for so long."""
        slices = self

        class One(Connection):
            def __init__(self) -> None: ...

            def look(self, now: float) -> None:
                assert now == slices.now
                slices.looked.append(self)
                slices.now += takes_s

        return {One() for _ in range(count)}

    def go_on(self) -> None:
        ((after_s, look, *told),) = self.later
        assert after_s == watch.SLICE_S
        self.later.clear()
        look(*told)


@pytest.mark.parametrize(("count", "first"), [(5, 5), (32, 32), (33, 32), (1_280, 32), (10_000, 32)])
async def test_thousands_of_connections_are_looked_at_a_few_at_a_time(
    server: Server, monkeypatch: pytest.MonkeyPatch, count: int, first: int
) -> None:
    """Each once a round, in slices that are no larger when more are there: ten thousand are all seen in three seconds and a
    bit, at a price that more would not raise. Nobody waits for all of them."""
    slices = Slices(monkeypatch)
    server.server_state.connections = slices.others(count)
    await server.on_tick(5)
    assert len(slices.looked) == first
    rounds = 1
    while slices.later:
        slices.go_on()
        rounds += 1
    assert len(slices.looked) == count and set(slices.looked) == server.server_state.connections
    assert rounds * watch.SLICE_S <= max(0.1 * watch.EACH, 3.2)
    await server.on_tick(10)
    assert len(slices.looked) == count + first


async def test_a_look_that_takes_its_time_ends_the_slice(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many whose time is up are sent away over a while. The next round begins when this one is over; who has left meanwhile is
    not looked at."""
    slices = Slices(monkeypatch)
    server.server_state.connections = slices.others(20, takes_s=watch.SLICE_MAX_S / 2)
    await server.on_tick(5)
    assert len(slices.looked) == 3
    await server.on_tick(10)
    assert len(slices.looked) == 3 and len(slices.later) == 1
    server.server_state.connections = set(slices.looked)
    slices.go_on()
    assert len(slices.looked) == 3 and slices.later == []
    await server.on_tick(15)
    assert len(slices.looked) == 6


class Broken(Looked):
    """A connection whose look is a bug."""

    def look(self, now: float) -> None:
        super().look(now)
        raise AttributeError("transport")


@pytest.mark.parametrize("at", [99, 0, 50], ids=["first", "last", "in a later slice"])
async def test_one_that_cannot_be_looked_at_keeps_nobody_from_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Neither in its slice nor in those after it, nor in later rounds; and it is said once."""
    seldom.forget()
    slices, all_of_them = Slices(monkeypatch), [Looked() for _ in range(100)]
    all_of_them[at] = Broken()
    server.server_state.connections = dict.fromkeys(all_of_them)  # type: ignore[assignment]
    with capture_logs() as said:
        for tick in (5, 10):
            await server.on_tick(tick)
            while slices.later:
                slices.go_on()
    assert [len(each.looks) for each in all_of_them] == [2] * 100
    assert [(line["event"], type(line["exc_info"])) for line in said] == [("api.look_failed", AttributeError)]


async def test_a_server_that_stops_looks_at_the_others_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drains, and ends, whatever is wrong with one of them."""
    ours = [Looked(), Broken(), Looked()]
    for each in ours:
        monkeypatch.setattr(each, "drain", lambda: None)
        monkeypatch.setattr(each, "shutdown", lambda: None)
    server.server_state.connections = dict.fromkeys(ours)  # type: ignore[assignment]
    server.servers, server.lifespan = [], SimpleNamespace(state={}, shutdown=_app)  # type: ignore[assignment]

    real_sleep = asyncio.sleep

    async def nobody_is_left(_s: float) -> None:
        server.server_state.connections.clear()
        await real_sleep(0)

    monkeypatch.setattr(
        watch, "asyncio", SimpleNamespace(get_running_loop=asyncio.get_running_loop, sleep=nobody_is_left)
    )
    await server.shutdown()
    assert all(each.looks for each in ours)


@pytest.mark.parametrize("counts", [[10, 0], [31, 1], [32, 17]])
async def test_memory_that_a_few_needed_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    assert trims(server, monkeypatch, [*counts, *counts[-1:] * 10]) == []


@pytest.mark.parametrize(
    ("counts", "at"),
    [
        ([32, 16, *[16] * 8], [1, 7]),
        ([40, 40, 20, *[20] * 8], [2, 8]),
        ([100, 50, *[50] * 6, 25, *[25] * 8], [1, 7, 8, 14]),
        ([100, 50, 25, *[25] * 8], [1, 2, 8]),
    ],
)
async def test_memory_that_many_needed_is_given_back_when_half_have_left(
    server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int], at: list[int]
) -> None:
    """And once more, six looks later, for those who left a little later; those who came since count anew."""
    assert trims(server, monkeypatch, counts) == at


def trims(server: Server, monkeypatch: pytest.MonkeyPatch, counts: list[int]) -> list[int]:
    found: list[int] = []
    for at, count in enumerate(counts):
        monkeypatch.setattr(watch.memory, "trim", lambda at=at: found.append(at))
        server.server_state.connections = set(range(count))  # type: ignore[arg-type]
        server.look_for_memory()
    return found


async def test_that_descriptors_are_short_is_said_once_each_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how many are connected; and the one that was tried is let go."""
    open_fds: list[int] = []
    short = False

    def dup(fd: int) -> int:
        assert fd == 2
        if short:
            raise OSError(errno.EMFILE, "hunter2")
        open_fds.append(77)
        return 77

    monkeypatch.setattr(watch, "os", SimpleNamespace(dup=dup, close=open_fds.remove))
    server.server_state.connections = {1, 2, 3}  # type: ignore[arg-type]
    with capture_logs() as said:
        for short in (False, True, True, False, True):  # noqa: B007
            server.look_for_descriptors()
    assert said == [
        {"event": "api.no_descriptors", "log_level": "error", "error": "OSError", "connections": 3} for _ in range(2)
    ]
    assert open_fds == []


NO_END = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "raised_to"),
    [
        (10_000, 10_000, 100, 100, None), (228, 228, 100, 100, None), (227, 300, 100, 100, 228), (227, NO_END, 100, 100, 228),
        (200, 227, 100, 99, 227), (100, 129, 100, 1, 129), (100, 100, 100, 1, 100), (NO_END, NO_END, 100, 100, None),
    ],
)  # fmt: skip
def test_how_many_connections_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, room: int, raised_to: int | None
) -> None:
    """128 descriptors are not clients'. As many more as the system gives are asked for; it is said when they are few."""
    asked: list[Any] = []
    monkeypatch.setattr(watch.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(watch.resource, "setrlimit", lambda _, limits: asked.append(limits))
    with capture_logs() as said:
        assert room_for(wanted) == room
    assert asked == ([(raised_to, hard)] if raised_to else [])
    few = {"event": "api.few_descriptors", "log_level": "warning", "connections_max": hard - 128, "wanted": wanted}
    assert said == ([few] if room < wanted else [])
