"""Time and chance are handed in (`boxoffice.clock.Clock`): a test brings its own, and nothing has to be waited for.

Who asks the process for them all the same stands here, with the reason. A default that is the process's own
(`now_s: Callable[[], float] = time.monotonic`) is no such place: whoever calls may bring another.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MODULES = ("time", "random", "secrets", "uuid")
FUNCTIONS = ("datetime.now", "os.urandom", "asyncio.sleep")

BY_ITSELF = {
    "boxoffice/admission/flood.py": (
        "time.monotonic",
        "how long a flood of this process lasts: no booking's fate hangs on it",
    ),
    "boxoffice/admission/templates.py": ("secrets.token_hex", "no text of a shop may look like the gap of a template"),
    "boxoffice/bookings/waiting.py": ("asyncio.sleep", "lets all that come in one turn be looked at in one call"),
    "boxoffice/gateway/simulator/deliveries.py": (
        "time.time asyncio.sleep",
        "the simulated gateway is another's machine",
    ),
    "boxoffice/gateway/simulator/kept_files.py": (
        "secrets.token_hex secrets.token_urlsafe",
        "a secret, and a draft's name",
    ),
    "boxoffice/gateway/simulator/ledger.py": ("secrets.token_hex asyncio.sleep", "two ledgers never have one name"),
    "boxoffice/gateway/stripe/http.py": ("asyncio.sleep", "Stripe's library asks its client to sleep"),
    "boxoffice/ids.py": ("secrets.choice os.urandom", "no name is made twice, whatever a test hands in"),
    "boxoffice/repair/reconcile.py": ("asyncio.sleep", "lets others run between two steps"),
    "boxoffice/access/store.py": ("secrets.token_urlsafe", "a secret"),
    "boxoffice/sales/codes.py": ("secrets.choice", "a secret"),
    "boxoffice/settlement/draining.py": ("asyncio.sleep", "lets a batch end that is under way in this process"),
    "boxoffice/stores/fence.py": ("random.SystemRandom", "no nonce is made twice"),
    "boxoffice/stores/news.py": ("asyncio.sleep", "a connection that was lost is tried again: nobody decides by it"),
    "boxoffice/stores/sessions.py": ("secrets.token_hex", "no two processes mark a session alike"),
    "boxoffice/telemetry/core_time.py": (
        "time.thread_time",
        "what this thread has worked, where the system does not say",
    ),
    "boxoffice/telemetry/log.py": ("time.time_ns", "when a line was written: nobody decides by it"),
    "boxoffice/telemetry/port.py": ("asyncio.sleep", "a port that is taken is tried again: nobody decides by it"),
    "boxoffice/telemetry/request_id.py": ("secrets.token_hex", "no two processes name a request alike"),
    "boxoffice/telemetry/traces.py": ("random.Random", "no two spans have one name"),
    "boxoffice/webhooks/connecting.py": (
        "asyncio.sleep time.monotonic",
        "how long a name took, and httpcore2's own pauses",
    ),
    "boxoffice/webhooks/signing.py": ("secrets.token_bytes", "a secret"),
    "boxoffice/telemetry/sink.py": (
        "time.time time.monotonic",
        "how long a reader of the log is waited for, in a thread",
    ),
    "boxoffice/wire/render.py": ("time.time_ns", "how much is left of a hold, for whoever does not say when"),
}


def asked(tree: ast.AST) -> Iterator[str]:
    """Each call that asks the process for the time, for chance, or to sleep; and each import that hides one."""
    handed_in = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for default in (*node.defaults, *node.kw_defaults)
        for inner in ast.walk(default or ast.Pass())
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if id(node) not in handed_in:
                if module in MODULES or f"{module}.{name}" in FUNCTIONS:
                    yield f"{module}.{name}"
            case ast.ImportFrom(module=str(module), names=names):
                yield from (
                    f"{module}.{each.name}"
                    for each in names
                    if module in ("time", "random", "secrets") or f"{module}.{each.name}" in FUNCTIONS
                )


def test_time_and_chance_are_handed_in() -> None:
    """And nobody stands in the table without need."""
    paths = sorted(path for folder in ("boxoffice", "worker") for path in (ROOT / folder).rglob("*.py"))
    found = {path.relative_to(ROOT).as_posix(): set(asked(ast.parse(path.read_text()))) for path in paths}
    assert {file: names for file, names in found.items() if names} == {
        file: set(names.split()) for file, (names, _) in BY_ITSELF.items()
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("end = time.monotonic() + 1", ["time.monotonic"]),
        ("pause = 1 + random.random()", ["random.random"]),
        ("from random import random", ["random.random"]),
        ("from asyncio import sleep", ["asyncio.sleep"]),
        ("now = datetime.now(UTC)", ["datetime.now"]),
        ("def now(clock=time.monotonic, ms=lambda: time.time_ns() // 1): return clock()", []),
        ("def now(*, at=1): return time.time()", ["time.time"]),
        ("await self._clock.sleep(1); self.redis.time(); UUID(text)", []),
    ],
)
def test_each_way_to_ask_is_seen(text: str, names: list[str]) -> None:
    assert list(asked(ast.parse(text))) == names
