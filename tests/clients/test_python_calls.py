"""The client in Python has every operation of the description, sent as it says."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import boxoffice_client
import pytest
from boxoffice_client import AsyncClient, Client, calls
from boxoffice_client.calls import Call

ROOT = Path(__file__).resolve().parents[2]

DOCUMENT: dict[str, Any] = json.loads((ROOT / "tests/api/openapi.json").read_text())

OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}

NOT_A_SHOPS = {"hear", *(name for name, (_, path, _) in OPERATIONS.items() if path.startswith("/v1/ops/"))}
"""What a gateway calls, and what operators do."""


def made(name: str) -> Call[Any]:
    """A call of this operation with something in each of its places."""
    function = getattr(calls, name)
    given: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "body":
            given["body"] = {"some": "body"}
        elif parameter.name.endswith("_id") and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            given[parameter.name] = f"a/{parameter.name}"
        elif parameter.name in ("if_match", "limit", "before"):
            given[parameter.name] = 7
        elif parameter.name == "wait_s":
            given["wait_s"] = 5
        elif parameter.name == "types":
            given["types"] = ["booking.confirmed", "booking.failed"]
        elif parameter.name != "key":
            given[parameter.name] = "some"
    call: Call[Any] = function(**given)
    return call


def test_there_is_a_call_for_every_operation() -> None:
    there = {name for name, each in vars(calls).items() if inspect.isfunction(each) and not name.startswith("_")}
    assert there - {"quote", "dataclass", "field"} == OPERATIONS.keys() - NOT_A_SHOPS


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - NOT_A_SHOPS))
def test_it_sends_what_the_description_says(name: str) -> None:
    method, path, operation = OPERATIONS[name]
    call = made(name)
    assert call.method == method
    assert call.path == re.sub(r"\{(\w+)\}", r"a%2F\1", path)
    parameters = operation.get("parameters", [])
    assert call.query.keys() == {each["name"] for each in parameters if each["in"] == "query"}
    headers = {each["name"] for each in parameters if each["in"] == "header"}
    assert (call.key is not None) == ("Idempotency-Key" in headers)
    assert (call.if_match is not None) == ("If-Match" in headers)
    assert call.prefer_wait == ("Prefer" in headers)
    assert (call.body is not None) == ("requestBody" in operation)


def test_what_makes_something_under_no_key_is_not_sent_twice() -> None:
    """Any other POST is under a key, or says how things shall be."""
    once = {name for name in OPERATIONS.keys() - NOT_A_SHOPS if not made(name).repeatable}
    assert once == {
        "create_event", "add_tier", "create_codes", "create_allocation", "release_allocation", "create_webhook_endpoint",
        "rotate_webhook_secret",
    }  # fmt: skip


def test_a_new_key_is_made_once_for_a_call() -> None:
    assert made("book").key != made("book").key
    assert calls.book({"customer_id": "ada", "items": []}, key="order-1").key == "order-1"


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - NOT_A_SHOPS))
def test_what_comes_back_is_what_the_description_says(name: str) -> None:
    """Read from the annotation, which mypy believes."""
    tree = ast.parse(inspect.getsource(calls))
    (function,) = (each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name)
    assert function.returns is not None
    answers = OPERATIONS[name][2]["responses"]
    good = {
        answer["content"].get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        for status, answer in answers.items()
        if status < "300" and "content" in answer
    }
    if name.startswith("stream_"):
        assert (good, ast.unparse(function.returns)) == ({""}, "Call[Any]"), "it is read as it comes"
        return
    assert {ast.unparse(function.returns)} == {f"Call[bodies.{schema}]" for schema in good}


def test_both_clients_have_a_method_for_each() -> None:
    streams = {"stream_booking": "watch_booking", "stream_event": "watch_availability"}
    methods = {streams.get(name, name) for name in OPERATIONS.keys() - NOT_A_SHOPS}
    for client in (Client, AsyncClient):
        assert methods <= vars(client).keys()
    public = [{name for name in vars(client) if not name.startswith("_")} for client in (Client, AsyncClient)]
    assert public[0] == public[1]


def test_the_package_names_what_it_has() -> None:
    assert sorted(boxoffice_client.__all__) == boxoffice_client.__all__
    assert all(hasattr(boxoffice_client, name) for name in boxoffice_client.__all__)
