"""No line comes once a request or once a tick: an outage of a night, or a client that repeats itself, fills no disk."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from api import problems, quiet
from boxoffice.errors import Malformed, StoreAway

ROOT = Path(__file__).parents[3]

STARTS = {
    "durability.stated", "durability.lowered", "worker.ready", "worker.stopped", "worker.task_ended", "api.few_descriptors",
    "traces.not_sent",
}  # fmt: skip
"""Once in a process's life."""

CHANGES = {
    "api.no_descriptors", "gateway.misconfigured", "gateway.mended", "settlement.paused", "settlement.resumed",
    "money.paused", "money.resumed", "money.of_another_gateway", "guard.judged", "shard.opened", "shard.closed",
    "shard.lost", "shard.recovered", "shard.rebuilt", "shard.checked", "postgres.promoted", "clock.went_back",
    "call_off.finished",
}  # fmt: skip
"""When something changes, and at most once a minute while it lasts."""

WORK = {
    "batch.settled", "holds.expired", "records.corrected", "strays.gathered", "tables.trimmed", "drift.found",
    "durability.weak", "call_off.refunded",
}  # fmt: skip
"""When many rows were worked on together, or every 15 s and more."""

EACH = {
    "booking.parked", "booking.failed_alone", "booking.capture_failed", "booking.cancelled", "booking.refunded",
    "booking.late_success", "payment.refunded_late", "refund.found", "refund.refused", "refund.retried",
    "refund.written_off", "dispute.told", "money.unknown", "money.known", "webhook_endpoint.disabled",
    "webhook_endpoint.place_gone",
}  # fmt: skip
"""Once or a few times for one booking, payment or endpoint, each of which somebody may look for."""


def said_directly() -> Iterator[tuple[str, str]]:
    """Lines that pass neither `seldom` nor `quiet`, and where."""
    for folder in ("api", "worker", "boxoffice"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "log"
                    and node.func.attr in ("debug", "info", "warning", "error", "exception")
                ):
                    event = node.args[0]
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield (str(event.value) if isinstance(event, ast.Constant) else ast.unparse(event)), where


def test_a_line_that_may_come_again_and_again_has_a_limit() -> None:
    bounded = STARTS | CHANGES | WORK | EACH
    # What is there again is said once for each time that it was said to be away, which `seldom` says.
    allowed_anywhere = {("event", "api/quiet.py"), ("OUTAGES[what][1]", "boxoffice/telemetry/outages.py"),
                        ("traces.recovered", "boxoffice/telemetry/otel.py")}  # fmt: skip
    unbounded = [
        (event, where)
        for event, where in said_directly()
        if event not in bounded and (event, where.partition(":")[0]) not in allowed_anywhere
    ]
    assert not unbounded, "say it with `seldom`, or say here why it is bounded"
    assert {event for event, _ in said_directly()} >= bounded, "no longer said directly"


@pytest.mark.parametrize(("client", "at_once"), [("", 1), ("shop", problems.OF_A_CLIENT)])
async def test_refusals_of_a_kind_have_so_many_lines(
    monkeypatch: pytest.MonkeyPatch, client: str, at_once: int
) -> None:
    """And all of them are counted."""
    monkeypatch.setattr(quiet, "EACH_S", 3_600.0)
    with capture_logs() as lines:
        for _ in range(500):
            problems.of_error(Malformed("No.", code="x"), route="book", client=client)
            await asyncio.sleep(0)
        assert len(lines) == at_once
        key = ("request.refused", "malformed-request", "book", client)
        for _ in range(2):  # as an hour later, and another
            quiet.again(asyncio.get_running_loop(), "request.refused", key, at_once, quiet.kinds[key])
    assert [line.get("requests", 1) for line in lines] == [1] * at_once + [500 - at_once]
    assert len({(line["event"], line["type"], line["client"]) for line in lines}) == 1


async def test_each_kind_and_client_has_its_own() -> None:
    with capture_logs() as lines:
        for client in ("a", "b"):
            for error in (StoreAway(), Malformed("No.", code="x")):
                problems.of_error(error, route="book", client=client)
        await asyncio.sleep(0)
    assert sorted((line["client"], line["type"], line["log_level"]) for line in lines) == [
        (client, *of) for client in "ab" for of in (("malformed-request", "info"), ("store-away", "warning"))
    ]
