"""Requests made from our description by schemathesis, as it has them and gone wrong: no 5xx, and no answer that the
description does not know. To make them takes longer than to answer them: each is sent to both ways into the application."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

from api import documentation
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.api.conftest import CONTRACT, booking_of
from tests.api.test_documentation import application
from tests.api.transport.test_server import Serving, connect, serving_with
from tests.conftest import KEY, SaleMaker

EXAMPLES = 25
"""Of each operation and each way to make them."""

MANY = pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)], id="many")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", ["lane"], indirect=True)
@pytest.mark.parametrize("examples", [pytest.param(EXAMPLES, id="some"), MANY])
async def test_any_request_is_answered_as_described(
    examples: int, servers: Servers, settings: Settings, office: BoxOffice, open_sale: SaleMaker, tmp_path: Path
) -> None:
    event = await open_sale(GA=100_000)
    plain = settings.model_copy(update={"api": settings.api.model_copy(update={"lane": False, "fast_path": False})})
    document = json.loads(json.dumps(documentation.openapi(application(settings, office))))
    with (
        serving_with(servers, settings, tmp_path / "lane.log") as lane,
        serving_with(servers, plain, tmp_path / "plain.log") as slow,
    ):
        for serving in (lane, slow):
            _, writer = await connect(serving)
            writer.close()
        there = {"event_id": [event.id], "tier_id": [event.tiers[0].id], "booking_id": await held(lane, event)}
        asked = await asyncio.to_thread(ask, with_ids(document, there), examples, lane.port, slow.port)

    assert asked > 10 * examples


async def held(serving: Serving, event: EventView) -> list[str]:
    """Ids of some bookings that there are, held and pending."""
    found = []
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{serving.port}") as client:
        for number in range(6):
            body = booking_of(event, **({} if number % 2 else {"payment": None}))
            headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": f"there-{number}"}
            answer = await client.post("/v1/bookings", json=body, headers=headers)
            assert answer.status_code in (201, 202), answer.text
            found.append(answer.json()["id"])
    return found


def with_ids(document: dict[str, Any], there: dict[str, list[str]]) -> dict[str, Any]:
    """The description, by which every other id is one that there is: of what is nowhere, every answer is the same."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in there:
                    parameter["schema"] = {"anyOf": [{"enum": there[parameter["name"]]}, parameter["schema"]]}
    item = document["components"]["schemas"]["ItemRequest"]["properties"]
    item["tier_id"] = {"anyOf": [{"enum": there["tier_id"]}, item["tier_id"]]}
    return document


def ask(document: dict[str, Any], examples: int, *ports: int) -> int:
    """Every operation, good requests and bad ones, at each of these ports, now one of them first and now another. Returns how
    many were made."""
    asked = 0
    orders = itertools.cycle([ports, ports[::-1]])
    schema = schemathesis.openapi.from_dict(document)
    with httpx2.Client(timeout=20) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                except schemathesis.errors.SchemathesisError:
                    continue

                @hypothesis.settings(
                    max_examples=examples, deadline=None, database=None, derandomize=True,
                    suppress_health_check=list(hypothesis.HealthCheck),
                )  # fmt: skip
                @hypothesis.given(case=strategy)
                def one(case: Any) -> None:
                    nonlocal asked
                    asked += 1
                    for port in next(orders):
                        send(client, case, port)

                with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong with GET /healthz
                    one()
    return asked


def send(client: httpx2.Client, case: Any, port: int) -> None:
    """One request, whose answer is as described."""
    sent = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{port}")
    headers = {name: str(value) for name, value in (sent["headers"] or {}).items()}
    headers["Authorization"] = f"Bearer {KEY}"
    try:
        request = client.build_request(
            sent["method"], sent["url"], params=sent.get("params"), headers=headers,
            json=sent.get("json"), content=sent.get("data"),
        )  # fmt: skip
        answer = client.send(request)
    except (httpx2.InvalidURL, UnicodeEncodeError, httpx2.LocalProtocolError, TypeError):
        return  # it cannot even be sent
    assert answer.status_code < 500, (answer.request, answer.text)
    CONTRACT.check(request.method, request.url.path, answer.status_code, answer.headers, answer.content)
