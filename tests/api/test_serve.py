"""How the server is set up before it runs, and in which order: looked at without running it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from api import server
from api.transport.connection import Connection
from boxoffice.settings import Settings
from boxoffice.telemetry import log


def test_a_server_is_told_what_it_is(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """It ends when its application cannot start, says nothing of its own, believes no proxy's headers, and collects what lives
    as long as it does out of the way before it answers anybody."""
    did: list[Any] = []
    stops: list[Any] = []

    class Fake:
        def __init__(self, config: Any, drain_s: float, at_stop: Any) -> None:
            stops.append(at_stop)
            did.append((config, drain_s))

        def run(self) -> None:
            did.append("run")

    monkeypatch.setattr(server, "Server", Fake)
    monkeypatch.setattr(log, "configure", lambda _, **__: did.append("log"))
    monkeypatch.setattr(server, "call_us", did.append)
    monkeypatch.setattr(server, "look_ahead", lambda given: "look" if given is settings else "")
    monkeypatch.setattr(server.asyncio, "run", did.append)
    monkeypatch.setattr(server.memory, "map_large", lambda: did.append("pages"))
    monkeypatch.setattr(server.signal, "signal", lambda number, _: did.append(number))
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(server.gc, name, lambda *_, name=name: did.append(name))
    server.serve(settings, "127.0.0.1", 8_123)
    config, drain_s = next(each for each in did if isinstance(each, tuple))
    assert [each for each in did if each != (config, drain_s)] == [
        "log", "api", "look", signal.SIGINT, signal.SIGTERM, "collect", "freeze", "set_threshold", "pages", "run",
    ]  # fmt: skip
    assert did.index((config, drain_s)) == len(did) - 2 and drain_s == settings.api.drain_s
    assert (config.host, config.port, config.loop, config.backlog) == ("127.0.0.1", 8_123, "uvloop", 4_096)
    assert (config.lifespan, config.ws, config.log_config) == ("on", "none", None)
    assert not (config.access_log or config.proxy_headers or config.server_header or config.date_header)
    assert config.timeout_graceful_shutdown == server.GRACE_S
    assert issubclass(config.http, Connection) and config.http.limits == settings.limits
