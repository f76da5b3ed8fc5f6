"""The API's description of itself agrees with what it does."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi import FastAPI

from api import documentation, event_schemas, hold_schemas, problem_schemas, problems, schemas
from api.app import create_app, entrance_of
from api.front import Front
from api.transport.reader import WITH_BODY
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from boxoffice.states import BOOKING_STATES, PAYMENT_STATUSES
from boxoffice.wire import hold_requests, render, requests
from tests.api.conftest import Book
from tests.conftest import CLIENT, SaleMaker, eventually, settle_all

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).with_name("openapi.json")


def application(settings: Settings, office: BoxOffice) -> FastAPI:
    app = entrance_of(create_app(settings, office=office))
    found = app.behind if isinstance(app, Front) else app
    assert isinstance(found, FastAPI)
    return found


async def test_the_document_is_the_one_that_was_reviewed(settings: Settings, office: BoxOffice) -> None:
    """A change of the API shows in the diff of `openapi.json`: run with UPDATE_SNAPSHOTS=1 and look at it."""
    document = documentation.openapi(application(settings, office))
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")

    assert document == json.loads(SNAPSHOT.read_text())


async def test_every_reference_of_the_document_exists(settings: Settings, office: BoxOffice) -> None:
    document = documentation.openapi(application(settings, office))

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*(references(value) for value in node.values()))
        if isinstance(node, list):
            return set().union(*(references(value) for value in node)) if node else set()
        return set()

    there = {
        f"#/components/{kind}/{name}" for kind, components in document["components"].items() for name in components
    }
    assert references(document) <= there


def members(node: Any, name: str) -> list[Any]:
    """Everything called so, however deep."""
    if isinstance(node, dict):
        own = [node[name]] if name in node else []
        return own + [found for value in node.values() for found in members(value, name)]
    return [found for each in node for found in members(each, name)] if isinstance(node, list) else []


async def test_no_member_has_null_for_its_default(settings: Settings, office: BoxOffice) -> None:
    """Generated clients take a member with a default for one that is always there."""
    document = documentation.openapi(application(settings, office))

    assert None not in members(document["components"], "default")
    for operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "anyOf" not in parameter["schema"]
            may = ("limit", "on_sale", "past", "released", "ended")
            assert "default" not in parameter["schema"] or parameter["name"] in may


async def test_every_kind_of_problem_has_a_schema(settings: Settings, office: BoxOffice) -> None:
    """With members of the whole one alone. Its type says which it is."""
    found = documentation.openapi(application(settings, office))["components"]["schemas"]
    slugs = {problem.slug for problem in (*problems.PROBLEMS.values(), *problems.HTTP_PROBLEMS.values())}
    assert problem_schemas.MEMBERS.keys() <= slugs
    assert {found[problem_schemas.name_of(slug)]["properties"]["type"]["const"] for slug in slugs} == {
        f"/problems/{slug}" for slug in slugs
    }
    used = {name for words in problem_schemas.MEMBERS.values() for name in " ".join(words).split()}
    assert used | {"type", "title", "status", "detail", "request_id"} == schemas.Problem.model_fields.keys()


async def test_it_says_where_it_is_served(settings: Settings, office: BoxOffice) -> None:
    assert [each["url"] for each in documentation.openapi(application(settings, office))["servers"]] == ["/"]


async def test_operations_have_plain_names_of_their_own(settings: Settings, office: BoxOffice) -> None:
    """They are what a generated client calls its functions."""
    names = [each["operationId"] for each in operations(documentation.openapi(application(settings, office)))]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def times(node: Any, name: str = "") -> list[tuple[str, Any]]:
    """Every member that is named like a time, with its schema."""
    found = []
    if isinstance(node, dict):
        for key, value in node.items():
            if re.search(r"(_at|_since|_until|^as_of|^valid_from)$", key) and isinstance(value, dict):
                found.append((key, value))
            found += times(value, key)
    return found


async def test_every_time_is_a_date_time(settings: Settings, office: BoxOffice) -> None:
    found = times(documentation.openapi(application(settings, office))["components"]["schemas"])
    assert len(found) > 30
    assert [name for name, schema in found if "date-time" not in json.dumps(schema)] == []


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


async def test_every_problem_is_told_where_it_may_come(settings: Settings, office: BoxOffice) -> None:
    """With an example, and never in FastAPI's own form."""
    document = documentation.openapi(application(settings, office))
    told = set()
    for operation in operations(document):
        for status, response in operation["responses"].items():
            assert "Cache-Control" in response["headers"]
            if int(status) >= 400:
                (described,) = response["content"].values()
                assert described["schema"] == problem_schemas.of_slugs(described["examples"])
                for slug, example in described["examples"].items():
                    assert example["value"]["status"] == int(status)
                    schemas.Problem.model_validate(example["value"])
                    told.add(slug)
    slugs = {problem.slug for problem in (*problems.PROBLEMS.values(), *problems.HTTP_PROBLEMS.values())}

    assert told == slugs - {"method-not-allowed"}, "which is an answer to what is not described"
    assert not [name for name in document["components"]["schemas"] if "Validation" in name]


async def test_every_method_that_takes_a_body_has_it_read(settings: Settings, office: BoxOffice) -> None:
    """From the connection: bodies of other methods are let by, and their routes would find none."""
    document = documentation.openapi(application(settings, office))
    methods = {
        method.upper().encode()
        for path in document["paths"].values()
        for method, operation in path.items()
        if "requestBody" in operation
    }
    assert methods == {*WITH_BODY}


async def test_every_call_needs_an_api_key(settings: Settings, office: BoxOffice) -> None:
    """All but a gateway's webhooks, which are signed."""
    document = documentation.openapi(application(settings, office))

    open_to_all = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "security" not in operation
    }
    assert {path for path in open_to_all if not path.startswith("/v1/webhooks/")} == {"/healthz", "/readyz"}


async def test_the_example_works_when_pasted(api: httpx2.AsyncClient, open_sale: SaleMaker, office: BoxOffice) -> None:
    """It names a tier that the example shop sells now, and none of the last time that somebody looked; none of any other
    shop's, for whoever reads it has no key."""
    assert documentation.TIER_ID in (await api.get("/openapi.json")).text
    event = await open_sale(GA=10)
    await office.catalogue.refresh()
    assert (await office.catalogue.event(event.id)).id == event.id
    assert documentation.TIER_ID in (await api.get("/openapi.json")).text
    await office.access.create_client("Third", client_id="third")
    await office.access.add_api_key("third", documentation.DEMO_KEY)
    await office.catalogue.api_keys.renew()
    assert documentation.TIER_ID in (await api.get("/openapi.json")).text
    await office.access.add_api_key(CLIENT, documentation.DEMO_KEY)

    async def written() -> str:
        text = (await api.get("/openapi.json")).text
        return "" if documentation.TIER_ID in text else text

    document = json.loads(await eventually(written, timeout_s=30))
    operation = document["paths"]["/v1/bookings"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["example"]
    key = next(parameter for parameter in operation["parameters"] if parameter["name"] == "Idempotency-Key")

    answer = await api.post("/v1/bookings", json=body, headers={"Idempotency-Key": key["example"]})

    assert answer.status_code == 202


async def test_the_page_and_the_document_are_there(api: httpx2.AsyncClient) -> None:
    page = await api.get("/docs", headers={"Authorization": ""})

    assert page.status_code == 200
    assert "/openapi.json" in page.text
    assert (await api.get("/openapi.json", headers={"Authorization": ""})).status_code == 200


async def test_the_page_needs_nothing_from_elsewhere(api: httpx2.AsyncClient) -> None:
    """No script, style or picture of another host; and what it names is there."""
    page = (await api.get("/docs", headers={"Authorization": ""})).text
    assert '"validatorUrl": null' in page, "Swagger UI asks a server of its makers whether the document is good"
    named = re.findall(r"(?:src|href|url)\s*[=:]\s*[\"']([^\"']+)", page)

    assert len(named) == 4
    for path in named:
        assert path.startswith("/") and not path.startswith("//")
        file = await api.get(path, headers={"Authorization": ""})
        assert file.status_code == 200 and len(file.content) > 1_000, path
    bundle = (await api.get("/docs/swagger-ui-bundle.js", headers={"Authorization": ""})).text
    (licence,) = re.findall(r"license information please see (\S+)", bundle.partition("\n")[0])
    text = (await api.get(f"/docs/{licence}", headers={"Authorization": ""})).text
    assert "SmartBear" in text and (ROOT / "LICENSE").read_text() in text
    for path in ("/docs/redoc.standalone.js", "/docs/..%2Fcore.py", "/docs/nothing"):
        assert (await api.get(path)).status_code == 404


async def test_answers_are_as_documented(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Read with the documented models, which forbid what they do not name."""
    event = await open_sale(GA=10)
    accepted = await book(event)
    schemas.Accepted.model_validate_json(accepted.content)
    schemas.Accepted.model_validate_json((await book(event, payment=...)).content)
    await settle_all(office)
    schemas.Booking.model_validate_json((await api.get(accepted.headers["location"])).content)
    schemas.BookingPage.model_validate_json((await api.get("/v1/bookings")).content)
    event_schemas.Event.model_validate_json((await api.get(f"/v1/events/{event.id}")).content)
    event_schemas.EventPage.model_validate_json((await api.get("/v1/events")).content)
    schemas.Problem.model_validate_json((await book(event, 10)).content)


@pytest.mark.parametrize(
    ("documented", "true"),
    [
        (schemas.Booking, render.BookingView), (schemas.Item, render.ItemView), (schemas.Payment, render.PaymentView),
        (schemas.Failure, render.FailureView), (schemas.BookingRequest, requests.Booking),
        (schemas.ItemRequest, requests.ItemForm), (schemas.PaymentRequest, requests.PaymentForm),
        (hold_schemas.HoldPaymentRequest, hold_requests.HoldPayment),
        (hold_schemas.ChangeRequest, hold_requests.Change), (hold_schemas.ExtensionRequest, hold_requests.Extension),
        (schemas.RefundRequest, hold_requests.Refund),
        (schemas.Refund, render.RefundView), (schemas.RefundRow, render.RefundRowView),
        (schemas.RefundItem, render.RefundItemView),
    ],
)  # fmt: skip
def test_documented_fields_are_the_true_ones(documented: Any, true: Any) -> None:
    assert set(documented.model_fields) == {field.encode_name for field in msgspec.structs.fields(true)}


def test_documented_words_are_the_true_ones() -> None:
    words = schemas.Payment.model_fields["status"].annotation.__args__  # type: ignore[union-attr]

    assert set(schemas.BookingStatus.__args__) == set(BOOKING_STATES)  # type: ignore[attr-defined]
    assert set(words) == {*PAYMENT_STATUSES, "pending"} - {"unknown"}
