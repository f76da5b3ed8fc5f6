"""The simulated gateway's process, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from boxoffice.settings import Settings
from tests.conftest import eventually
from tests.support.ports import free_port
from tests.support.unread import unread

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("apart", [False, True])
async def test_a_body_is_not_lost_to_an_offer_of_another_protocol(
    settings: Settings, tmp_path: Path, apart: bool
) -> None:
    """It is read as a body, also in a segment of its own, and never as the next request."""
    port = free_port()
    code = "from ops.bank.server import serve; from boxoffice.settings import load_settings;"
    command = [sys.executable, "-c", f"{code} serve(load_settings(), '127.0.0.1', {port})"]
    environment = os.environ | {
        "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
        "DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    inner = b"POST /actions/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /v1/payments HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    head += b"HTTP2-Settings: AAMAAABk\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(inner)
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:

            async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
                with contextlib.suppress(OSError):
                    return await asyncio.open_connection("127.0.0.1", port)
                return None

            reader, writer = await eventually(connect, timeout_s=30)

            async def is_read(writer: asyncio.StreamWriter = writer) -> bool:
                return not unread(writer)

            writer.write(head if apart else head + inner)
            if apart:
                # Two segments, and the server has seen the first.
                await eventually(is_read)
                writer.write(inner)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            told = await asyncio.wait_for(reader.read(), 20)
            writer.close()
        finally:
            process.kill()
    assert told.count(b"HTTP/1.1 ") == 2
    first, second = told.split(b"HTTP/1.1 ")[1:]
    # Not json, or nobody who may ask.
    assert first[:3] in (b"400", b"401")
    assert second.startswith(b"200 ")
    assert told.lower().count(b"\r\ndate: ") == 2 and b"\r\nserver: " not in told.lower()
