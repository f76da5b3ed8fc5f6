"""Streams and waits on a real socket, of a process that is told to stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.api.conftest import booking_of
from tests.api.transport.test_server import (
    Serving,
    answer_of,
    connect,
    read_of,
    request_of,
    serving_with,
    stops_listening,
)
from tests.conftest import SHARD, SaleMaker, eventually
from tests.support.messages import head_of, messages_of

pytestmark = pytest.mark.parametrize("settings", ["lane", "plain"], indirect=True)


@pytest.fixture
def serving(servers: Servers, settings: Settings, office: BoxOffice, tmp_path: Path) -> Iterator[Serving]:
    with serving_with(servers, settings, tmp_path / "api.log") as serving:
        yield serving


async def test_a_process_that_stops_lets_everybody_go(
    serving: Serving, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Streams end with a word; a request that waits gets the plain answer. Then the process ends with 0."""
    event = await open_sale(GA=10)
    reader, writer = await connect(serving)
    writer.write(read_of(f"/v1/events/{event.id}/stream"))
    read = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert head_of(read).headers["content-type"] == "text/event-stream"
    while not messages_of(read):
        read += await asyncio.wait_for(reader.read(4_096), 20)
    waiting_reader, waiting_writer = await connect(serving)
    waiting_writer.write(request_of(json.dumps(booking_of(event)).encode(), "k", "Prefer: wait=10"))

    async def admitted() -> bool:
        return bool(await office.redis.zcard(f"{{s{SHARD:02d}}}:pend"))

    await eventually(admitted)
    await stops_listening(serving)
    status, headers, booking = await answer_of(waiting_reader)
    assert (status, booking["status"], headers["connection"]) == (202, "pending", "close")
    read += await asyncio.wait_for(reader.read(), 20)
    assert read.endswith(b": closed\n\n")
    assert await asyncio.to_thread(serving.process.wait, 20) == 0
    for each in (writer, waiting_writer):
        each.close()
