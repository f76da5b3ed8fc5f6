"""Every refusal is in the one table, and in `docs/errors.md`."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.security.base import SecurityBase
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from api import problems, quiet
from api.app import create_app, entrance_of
from api.rights import routes_of
from api.transport.head import Unreadable
from boxoffice import errors
from boxoffice.gateway.webhooks import WebhookRefused
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.telemetry.request_id import current
from boxoffice.wire.render import FAILURES
from tests.api.conftest import Book, assert_problem
from tests.conftest import SaleMaker

ROOT = Path(__file__).parents[2]
DOCUMENTED = (ROOT / "docs/errors.md").read_text("utf-8")

# Operators' commands, and classes that only gather others.
NOT_SERVED = {
    errors.CannotRun, errors.DriftUnexplained, errors.BadRequest, errors.Refused, errors.Unavailable,
}  # fmt: skip


def every(kind: type[Any]) -> set[type[Any]]:
    return {kind}.union(*(every(child) for child in kind.__subclasses__()))


def test_every_error_has_its_problem() -> None:
    """An error that is not in the table would be answered as a bug."""
    ours = {kind for kind in every(errors.BoxOfficeError) if kind.__module__.startswith("boxoffice.")}
    ours -= {errors.BoxOfficeError, *NOT_SERVED}

    assert ours == set(problems.PROBLEMS)
    assert WebhookRefused in problems.PROBLEMS


def test_every_problem_is_documented() -> None:
    """One heading each, under it its status, and no heading for what does not exist."""
    table = {*problems.PROBLEMS.values(), *problems.HTTP_PROBLEMS.values()}
    headings = dict(re.findall(r"^### ([a-z-]+)\n(\d{3})", DOCUMENTED, re.M))

    assert headings == {problem.slug: str(problem.status) for problem in table}


def test_titles_are_one_per_type() -> None:
    table = {*problems.PROBLEMS.values(), *problems.HTTP_PROBLEMS.values()}

    assert len({problem.slug for problem in table}) == len(table)


def test_every_code_is_documented() -> None:
    """Codes of what is malformed, and codes of why a booking failed."""
    sources = "".join(
        path.read_text("utf-8") for folder in ("api", "boxoffice") for path in (ROOT / folder).rglob("*.py")
    )
    codes = set(re.findall(r'\bcode="([a-z_0-9]+)"', sources))
    codes |= set(re.findall(r'bad_header\(.*, "([a-z_]+)"\)', sources)) | {"malformed", "card_data"}
    documented = set(re.findall(r"`([a-z_]+)`", DOCUMENTED))

    assert codes - documented - {"card_data"} == set()
    assert set(FAILURES) - documented == set()


def test_every_failure_code_has_its_sentence() -> None:
    """Whatever is written as a booking's failure, in SQL or in Python."""
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "boxoffice").rglob("*.py"))
    written = set(re.findall(r"UPDATE bookings\b[^;]*?\bfailure_code = '(\w+)'", sources))
    written |= set(re.findall(r"_set_cancelled\([^\n]*\"(\w+)\"\)", sources))
    written |= set(re.findall(r"\b_(?:lose|let_go)\(claim, [^\n]*\"(\w+)\", terms\)", sources))
    written |= set(re.findall(r"\b_end\(claim, [\w.]+, \"\w+\", \"(\w+)\"", sources))

    assert len(written) > 4
    assert written - {"duplicate"} - set(FAILURES) == set(), "a duplicate is shown as the booking that came first"


async def test_a_bug_tells_nothing(
    api: httpx2.AsyncClient, book: Book, office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500, without a word of what happened."""
    event = await open_sale(GA=1)

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(office.admission, "book", broken)
    monkeypatch.setattr(office.bookings, "get", broken)
    monkeypatch.setattr(office.bookings, "list", broken)
    monkeypatch.setattr(office.catalogue, "left", broken)
    for answer in (
        await book(event),
        await api.get("/v1/bookings/x"),
        await api.get("/v1/bookings"),
        await api.get("/v1/events"),
        await api.get(f"/v1/events/{event.id}"),
    ):
        assert_problem(answer, 500, "internal-error")
        assert "secret" not in answer.text


async def test_an_error_that_is_not_in_the_table_is_a_bug(
    book: Book, office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=1)

    async def strange(*_: Any) -> Any:
        raise errors.CannotRun("secret")

    monkeypatch.setattr(office.admission, "book", strange)

    answer = await book(event)

    assert_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404), ("POST", "/v1/nothing", 404), ("GET", "/v1/bookings/a/b", 404),
        ("GET", "/v1/bookings/", 404), ("GET", "/v1/events/", 404), ("GET", "/v1/events/%00", 404),
        ("GET", "/v1/events/a%2Fb", 404), ("POST", "/v1/bookings/", 404), ("GET", "/v1/events/" + "x" * 5_000, 404),
        ("PUT", "/v1/bookings", 405), ("DELETE", "/v1/bookings/x", 405), ("PUT", "/v1/events", 405),
        ("DELETE", "/v1/events/x", 405), ("POST", "/healthz", 405),
    ],
)  # fmt: skip
async def test_what_is_not_there(
    api: httpx2.AsyncClient, office: BoxOffice, method: str, path: str, status: int
) -> None:
    answer = await api.request(method, path)

    assert_problem(answer, status, "not-found" if status == 404 else "method-not-allowed")
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("status", "code", "header", "slug", "detail"),
    [
        (
            400,
            "framing",
            "Transfer-Encoding",
            "malformed-request",
            "Where the body ends is not said, or said in two ways.",
        ),
        (
            400,
            "request_line",
            "",
            "malformed-request",
            "The first line is not that of an HTTP/1.1 request for a path of ours.",
        ),
        (400, "duplicate", "Host", "malformed-request", "A header is missing, malformed or there twice."),
        (408, "timeout", "", "request-timeout", "The rest of the request did not come in time."),
        (431, "too_large", "", "head-too-large", "The head has more bytes or more lines than we read."),
    ],
)
def test_what_is_no_request_is_told_and_logged(status: int, code: str, header: str, slug: str, detail: str) -> None:
    """Why, and where when it was a header."""
    with capture_logs() as said:
        reply = problems.unreadable(Unreadable(code, header, status), b"r-1")
    problem = json.loads(reply.body)
    where = {"header": header, "code": code} if header else {"code": code}
    assert (reply.status, problem["type"], problem["detail"]) == (status, f"/problems/{slug}", detail)
    assert problem["errors"] == [where]
    assert (b"cache-control", b"no-store") in reply.headers
    assert said == [
        {
            "event": "request.unreadable",
            "log_level": "info",
            "type": slug,
            "status": status,
            "code": code,
            "header": header,
            "request_id": "r-1",
        }
    ]


def test_what_the_door_says_by_itself() -> None:
    """Each with its status, its type, and when to come again where that makes sense."""
    with capture_logs() as said:
        crowded, ready = problems.crowded(b"r-1"), problems.not_ready({"redis": "away"})
        other = problems.of_status(418, "Why.", [(b"allow", b"GET")])
    (line,) = said
    assert line == {
        "event": "connection.refused", "log_level": "info", "type": "too-many-connections", "request_id": "r-1",
    }  # fmt: skip
    for reply, slug, more in (
        (crowded, "too-many-connections", {"retry_after": 1}),
        (ready, "not-ready", {"reasons": {"redis": "away"}, "retry_after": 1}),
    ):
        problem = json.loads(reply.body)
        assert (reply.status, problem["type"], problem["status"]) == (503, f"/problems/{slug}", 503)
        assert {name: problem[name] for name in more} == more
        assert reply.headers[0] == (b"content-type", b"application/problem+json")
        assert (b"retry-after", b"1") in reply.headers
    assert (other.status, json.loads(other.body)["detail"], (b"allow", b"GET") in other.headers) == (418, "Why.", True)


@pytest.mark.parametrize("client", ["", "shop"])
@pytest.mark.parametrize(
    ("error", "level", "lines"),
    [(errors.SoldOut(), "info", 1), (errors.Busy(), "warning", problems.OF_A_CLIENT)],
)
async def test_who_fills_a_log_is_counted(client: str, error: errors.BoxOfficeError, level: str, lines: int) -> None:
    """Nobody we know has one line of a kind; a shop, and what is wrong here, some."""
    with capture_logs() as said:
        for _ in range(problems.OF_A_CLIENT + 5):
            try:
                raise type(error)
            except errors.BoxOfficeError as raised:
                problems.of_error(raised, route="book", client=client)
    assert len(said) == (problems.OF_A_CLIENT if client else lines)
    assert {(line["event"], line["log_level"], line["client"], line["route"]) for line in said} == {
        ("request.refused", level, client, "book")
    }


@pytest.mark.parametrize(
    ("path", "key", "at_once", "count"),
    [("/v1/events", False, 1, 100), ("/v1/events?limit=0", True, problems.OF_A_CLIENT, 200)],
)
async def test_who_repeats_what_is_refused_fills_no_log(
    api: httpx2.AsyncClient, event: EventView, path: str, key: bool, at_once: int, count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Through routes, too: lines are counted in the loop, and in no thread."""
    monkeypatch.setattr(quiet, "EACH_S", 600.0)  # however long so many requests take here
    with capture_logs() as said:
        for _ in range(count):
            await api.get(path, headers={} if key else {"Authorization": ""})
            await asyncio.sleep(0)
        lines = [line for line in said if line["event"] == "request.refused"]
        assert len(lines) == at_once
        ((kind, known),) = [each for each in quiet.kinds.items() if each[0][0] == "request.refused"]
        quiet.again(asyncio.get_running_loop(), kind[0], kind, at_once, known)
    assert [line.get("requests", 1) for line in said if line["event"] == "request.refused"] == [
        *[1] * at_once, count - at_once,
    ]  # fmt: skip


def test_nothing_of_a_request_runs_in_a_thread(settings: Settings) -> None:
    """Starlette has threads for whatever is no coroutine: what is counted, and what belongs to the loop, is touched there by
    several at a time."""
    app = entrance_of(create_app(settings))
    app = app if isinstance(app, FastAPI) else app.behind
    for handler in app.exception_handlers.values():
        assert inspect.iscoroutinefunction(handler), handler
    waiting = [route.dependant for route in routes_of(app.routes)]
    assert len(waiting) > 20
    while waiting:
        found = waiting.pop()
        assert inspect.iscoroutinefunction(found.call) or isinstance(found.call, SecurityBase), found.call
        waiting += found.dependencies


async def test_bookings_of_one_call_that_are_refused_alike_share_a_line() -> None:
    """Each client's own, at the end of the turn, with how many they were."""
    error = errors.SoldOut()
    with capture_logs() as said:
        first = problems.of_error(error, client="a")
        assert problems.of_error(error, client="a") is first
        assert problems.of_error(error, client="b") is not first
        assert said == []
        await asyncio.sleep(0)
        assert problems.of_error(error, client="a") is not first
        await asyncio.sleep(0)
    lines = [line for line in said if line["event"].startswith("request.")]
    assert [(line["client"], line.get("requests")) for line in lines] == [("a", 2), ("b", None), ("a", None)]


async def test_a_line_names_the_requests_whose_it_is() -> None:
    """One by its id, also in a task of its own; of those that share it the first ten; none where nobody knows."""
    error = errors.SoldOut()
    with capture_logs() as said:
        problems.of_error(error, b"r-1", client="a")
        for n in range(12):
            problems.of_error(error, b"s-%d" % n, client="b")
        problems.of_error(error, client="c")
        current.set(b"r-2")
        problems.of_error(error, client="d")
        await asyncio.sleep(0)
    lines = [line for line in said if line["event"].startswith("request.")]
    named = {line["client"]: (line.get("request_id"), line.get("request_ids"), line.get("requests")) for line in lines}
    assert named == {
        "a": ("r-1", None, None), "b": (None, " ".join(f"s-{n}" for n in range(10)), 12), "c": (None, None, None),
        "d": ("r-2", None, None),
    }  # fmt: skip


def test_a_bug_names_the_request_that_met_it() -> None:
    """Also where Redis refused what nobody foresaw, and in the line of whoever is told so."""
    with capture_logs() as said:
        problems.unexpected(ValueError("a bug"), b"r-1")
        problems.unexpected(ResponseError("WRONGTYPE"), b"r-2")
        problems.of_error(errors.BoxOfficeError("in no table"), b"r-3")
    assert [(line["event"], line["request_id"]) for line in said] == [
        ("request.failed", "r-1"), ("request.failed", "r-2"), ("request.refused", "r-2"), ("request.failed", "r-3"),
    ]  # fmt: skip
