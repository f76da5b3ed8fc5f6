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
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from tests.api.conftest import CONTRACT
from tests.api.test_documentation import application
from tests.api.transport.test_server import connect, serving_with
from tests.conftest import KEY, SaleMaker

EXAMPLES = 25
"""Of each operation and each way to make them."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", ["lane"], indirect=True)
async def test_any_request_is_answered_as_described(
    servers: Servers, settings: Settings, office: BoxOffice, open_sale: SaleMaker, tmp_path: Path
) -> None:
    event = await open_sale(GA=1_000)
    plain = settings.model_copy(update={"api": settings.api.model_copy(update={"lane": False, "fast_path": False})})
    text = json.dumps(documentation.openapi(application(settings, office)))
    # Now and then a tier that there is.
    text = text.replace('"tier_id": {"maxLength"', f'"tier_id": {{"examples": ["{event.tiers[0].id}"], "maxLength"')
    with (
        serving_with(servers, settings, tmp_path / "lane.log") as lane,
        serving_with(servers, plain, tmp_path / "plain.log") as slow,
    ):
        for serving in (lane, slow):
            _, writer = await connect(serving)
            writer.close()
        asked = await asyncio.to_thread(ask, json.loads(text), lane.port, slow.port)

    assert asked > 10 * EXAMPLES


def ask(document: dict[str, Any], *ports: int) -> int:
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
                    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
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
