"""Every refusal is in the one table, and in `docs/errors.md`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import problems
from boxoffice import errors
from boxoffice.gateway.base import WebhookRefused
from boxoffice.office import BoxOffice
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
    written |= set(re.findall(r"\b_lose\(case, \"(\w+)\"", sources))
    written |= set(re.findall(r"\b_end\(case, \"\w+\", \"(\w+)\"", sources))

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
    monkeypatch.setattr(office.catalogue, "availability", broken)
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
        ("GET", "/", 404), ("GET", "/v1", 404), ("POST", "/v1/nothing", 404), ("GET", "/v1/bookings/a/b", 404),
        ("GET", "/v1/bookings/", 404), ("GET", "/v1/events/", 404), ("GET", "/v1/events/%00", 404),
        ("GET", "/v1/events/a%2Fb", 404), ("POST", "/v1/bookings/", 404), ("GET", "/v1/events/" + "x" * 5_000, 404),
        ("PUT", "/v1/bookings", 405), ("DELETE", "/v1/bookings/x", 405), ("POST", "/v1/events", 405),
        ("PATCH", "/v1/events/x", 405), ("POST", "/healthz", 405),
    ],
)  # fmt: skip
async def test_what_is_not_there(
    api: httpx2.AsyncClient, office: BoxOffice, method: str, path: str, status: int
) -> None:
    answer = await api.request(method, path)

    assert_problem(answer, status, "not-found" if status == 404 else "method-not-allowed")
    assert ("allow" in answer.headers) == (status == 405)
