"""While streams are open: they show that they are alive, end with their API key, and are handed elsewhere when the process
stops."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.streams.readers import Holder, Readers
from api.streams.stream import Stream
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.conftest import CLIENT, KEY, SaleMaker
from tests.support.messages import follow, get, head_of, nth
from tests.support.shop.office import Till
from tests.support.waiting import true_soon
from tests.support.wire import Door

pytestmark = pytest.mark.wire


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"streams": settings.streams.model_copy(update={"heartbeat_s": 1.0, "each_ms": 50})}
    )


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    return await open_sale(GA=50)


@pytest.fixture
async def paths(office: BoxOffice, event: EventView) -> list[str]:
    booking = await Till(office, event).book(GA=1)
    return [f"/v1/events/{event.id}/stream", f"/v1/bookings/{booking}/stream"]


async def test_everybody_gets_a_heartbeat(door: Door, paths: list[str]) -> None:
    wires = [await follow(door, get(path, key=KEY)) for path in paths * 3]
    for wire in wires:
        await true_soon(lambda wire=wire: wire.received.count(b"\n:\n\n") >= 2)  # type: ignore[misc]


async def test_a_revoked_key_ends_its_streams(door: Door, paths: list[str], office: BoxOffice) -> None:
    """Within two seconds; others' go on."""
    await office.access.add_api_key(CLIENT, "gone.secret", Grant())
    own = [await follow(door, get(path, key="gone.secret")) for path in paths]
    others = [await follow(door, get(path, key=KEY)) for path in paths]
    for wire in (*own, *others):
        assert head_of(bytes(wire.received)).status == 200
    await office.access.revoke_api_key("gone")
    began = time.monotonic()
    await true_soon(lambda: all(wire.closing for wire in own))
    assert time.monotonic() - began < 2
    assert all(wire.received.endswith(b": closed\n\n") for wire in own)
    assert not any(wire.closing for wire in others)


async def test_one_that_never_began_keeps_no_key_from_being_asked(
    door: Door, paths: list[str], office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of one key come together, as the first of it: what becomes of one is nothing to the other."""
    await office.access.add_api_key(CLIENT, "gone.secret", Grant())
    admitted = []
    admit = Readers.admit

    def both(*args: Any) -> Holder:
        """Another request, whose connection is lost before its stream begins."""
        admitted.append(Stream(args[0], admit(*args), args[4], b""))
        return admit(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Readers, "admit", both)
        wire = await follow(door, get(paths[0], key="gone.secret"))
    (never,) = admitted
    never.abandon()
    await office.access.revoke_api_key("gone")
    await true_soon(lambda: wire.closing)
    assert wire.received.endswith(b": closed\n\n")


async def test_a_process_that_stops_says_good_bye(door: Door, paths: list[str]) -> None:
    """Everybody is closed within a moment, and nobody is let in any more."""
    wires = [await follow(door, get(path, key=KEY)) for path in paths * 2]
    for wire in wires:
        await nth(wire, 1)
    door.app.stop()
    await true_soon(lambda: all(wire.closing for wire in wires))
    assert all(wire.received.endswith(b": closed\n\n") for wire in wires)
    (answer,) = await door.answers(get(paths[0], key=KEY))
    assert answer.status == 503


async def test_who_does_not_read_is_cut_off(
    door: Door, office: BoxOffice, event: EventView, settings: Settings
) -> None:
    """What piles up for one costs nobody else anything."""
    wire, other = [await follow(door, get(f"/v1/events/{event.id}/stream", key=KEY)) for _ in range(2)]
    wire.get_write_buffer_size = lambda: settings.streams.buffer_max_bytes + 1  # type: ignore[method-assign]
    till = Till(office, event)
    await till.book(GA=1)
    await nth(other, 2)
    await true_soon(lambda: wire.closing)
    assert not other.closing
    await till.book(GA=1)
    await nth(other, 3)
