"""A rush to watch, as the operators' page asks for it: one at a time, and only where somebody plays it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from api.rushes import KilledView, RushDesk, RushState, RushTerms
from boxoffice.access.store import Grant
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.api.conftest import assert_problem
from tests.conftest import CLIENT

PATH = "/v1/ops/rushes"


@pytest.fixture
async def operator(api: httpx2.AsyncClient, office: BoxOffice) -> httpx2.AsyncClient:
    api.headers["Authorization"] = f"Bearer {await office.access.create_api_key(CLIENT, Grant(('ops',)))}"
    return api


@pytest.fixture
def desk(settings: Settings) -> Iterator[RushDesk]:
    """Of a supervisor that plays rushes."""
    desk = RushDesk(settings.data_dir)
    desk.open()
    yield desk
    desk.close()


async def test_where_nobody_plays_there_is_nothing(operator: httpx2.AsyncClient, settings: Settings) -> None:
    assert_problem(await operator.get(PATH), 404, "not-found")
    assert_problem(await operator.post(PATH, json={}), 404, "not-found")
    assert not RushDesk(settings.data_dir).folder.exists()


async def test_of_two_wishes_the_first_is_played(operator: httpx2.AsyncClient, desk: RushDesk) -> None:
    assert (await operator.get(PATH)).json() == {"rush": None}

    first = await operator.post(PATH, json={"customers": 200, "seconds": 5, "dies": "api"})
    assert first.status_code == 202
    rush = first.json()["rush"]
    assert (rush["status"], rush["terms"]["customers"], rush["terms"]["dies"]) == ("starting", 200, "api")

    second = await operator.post(PATH, json={"customers": 300})
    assert (second.status_code, second.json()) == (200, first.json())
    wish = desk.wish()
    assert wish is not None and wish.terms == RushTerms(200, 5, dies="api")


async def test_what_is_told_of_it_is_shown_until_the_next_one(operator: httpx2.AsyncClient, desk: RushDesk) -> None:
    await operator.post(PATH, json={"customers": 200})
    wish = desk.wish()
    assert wish is not None
    desk.write(RushState(wish.id, wish.terms, "selling", accepted=7, killed=[KilledView("worker", 2.5)]))
    rush = (await operator.get(PATH)).json()["rush"]
    assert (rush["status"], rush["accepted"]) == ("selling", 7)
    assert rush["killed"] == [{"name": "worker", "at_s": 2.5, "back_s": None}]

    desk.write(RushState(wish.id, wish.terms, "held"))
    desk.done()
    assert (await operator.get(PATH)).json()["rush"]["status"] == "held"

    assert (await operator.post(PATH, json={})).status_code == 202
    rush = (await operator.get(PATH)).json()["rush"]
    assert rush["status"] == "starting" and rush["id"] != wish.id, "and nothing of the one before"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"customers": 99}, "/customers", "out_of_range"),
        ({"customers": 6_001}, "/customers", "out_of_range"),
        ({"customers": 1_000, "seconds": 5}, "/customers", "out_of_range"),
        ({"seconds": 61}, "/seconds", "out_of_range"),
        ({"trouble": 0.6}, "/trouble", "out_of_range"),
        ({"seconds": "20"}, "/seconds", "wrong_type"),
        ({"capacity": 1}, "/capacity", "unknown_member"),
    ],
)
async def test_terms_have_bounds(
    operator: httpx2.AsyncClient, desk: RushDesk, body: dict[str, Any], pointer: str, code: str
) -> None:
    problem = assert_problem(await operator.post(PATH, json=body), 400, "malformed-request")
    assert problem["errors"] == [{"pointer": pointer, "code": code}]
    assert desk.wish() is None


async def test_who_dies_is_one_of_ours(operator: httpx2.AsyncClient, desk: RushDesk) -> None:
    assert_problem(await operator.post(PATH, json={"dies": "postgres"}), 400, "malformed-request")
    assert desk.wish() is None


async def test_what_a_crash_left_is_no_wish(desk: RushDesk) -> None:
    assert desk.ask_for(RushTerms())
    desk.open()
    assert (desk.wish(), desk.state()) == (None, None)
