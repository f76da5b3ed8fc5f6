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
from tests.conftest import KEY, SaleMaker, settle_all

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
        there = await things(lane, office, event)
        asked = await asyncio.to_thread(ask, with_ids(document, there), examples, lane.port, slow.port)

    assert asked > 10 * examples


async def things(serving: Serving, office: BoxOffice, event: EventView) -> dict[str, list[str]]:
    """Ids of some of each that there are: bookings are confirmed, held and pending."""
    tier, path = event.tiers[0].id, f"/v1/events/{event.id}"
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{serving.port}", timeout=30) as client:

        async def made(path: str, body: dict[str, Any], number: int = 0) -> Any:
            headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": f"there-{number}"}
            answer = await client.post(path, json=body, headers=headers)
            assert answer.status_code in (201, 202), answer.text
            return answer.json()

        async def booked(number: int) -> str:
            body = booking_of(event, quantity=2, **({} if number % 2 else {"payment": None}))
            return str((await made("/v1/bookings", body, number))["id"])

        sold = [await booked(number) for number in (1, 3)]
        await settle_all(office)
        one = {"items": [{"tier_id": tier, "quantity": 1}]}
        codes = await made(f"{path}/access-codes", {"count": 4, "tickets": 50})
        return {
            "event_id": [event.id],
            "tier_id": [tier],
            "refund_id": [(await made(f"/v1/bookings/{booking}/refunds", one))["id"] for booking in sold],
            "booking_id": sold + [await booked(number) for number in range(4, 8)],
            "code_id": [code["id"] for code in codes["data"]],
            "allocation_id": [
                (await made(f"{path}/allocations", {"tier_id": tier, "tickets": 5, "code_id": code["id"]}))["id"]
                for code in codes["data"][:2]
            ],
            "endpoint_id": [
                (await made("/v1/webhook-endpoints", {"url": f"https://shop.example/{number}"}))["id"]
                for number in range(4)
            ],
        }


ENDINGS = ("/call-off", "/release", "/revoke", "/cancel")
"""What is asked for last, with what deletes: afterwards there is less to ask about."""


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
    """Every operation, good requests and bad ones, at each of these ports, now one of them first and now another; many of them
    are others each time. Returns how many were made."""
    asked = 0
    orders = itertools.cycle([ports, ports[::-1]])
    schema = schemathesis.openapi.from_dict(document)
    with httpx2.Client(timeout=20) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operations = [result.ok() for result in schema.get_all_operations()]
        operations.sort(key=lambda each: each.method == "delete" or each.path.endswith(ENDINGS))
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                except schemathesis.errors.SchemathesisError:
                    continue

                @hypothesis.settings(
                    max_examples=examples, deadline=None, database=None, derandomize=examples == EXAMPLES,
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
