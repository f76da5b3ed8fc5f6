"""Requests made from our description by schemathesis, as it has them and gone wrong: no 5xx, and no answer that the
description does not know."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

from api import documentation
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import CONTRACT
from tests.api.test_documentation import application
from tests.api.transport.test_server import Serving, connect, serving
from tests.conftest import KEY, SaleMaker

__all__ = ["serving"]

EXAMPLES = 25
"""Of each operation and each way to make them."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", ["lane", "plain"], indirect=True)
async def test_any_request_is_answered_as_described(
    serving: Serving, settings: Settings, office: BoxOffice, open_sale: SaleMaker
) -> None:
    event = await open_sale(GA=1_000)
    _, writer = await connect(serving)
    writer.close()
    text = json.dumps(documentation.openapi(application(settings, office)))
    # Now and then a tier that there is.
    text = text.replace('"tier_id": {"maxLength"', f'"tier_id": {{"examples": ["{event.tiers[0].id}"], "maxLength"')
    asked = await asyncio.to_thread(ask, json.loads(text), serving.port)

    assert asked > 10 * EXAMPLES


def ask(document: dict[str, Any], port: int) -> int:
    """Every operation, good requests and bad ones. Returns how many were made."""
    asked = 0
    schema = schemathesis.openapi.from_dict(document)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client, warnings.catch_warnings():
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

                with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong with GET /healthz
                    one()
    return asked
