"""Reads of what is on sale that may be answered with 304, and from a copy: in each way into the application, and to each
shop only what is its own to see."""

from __future__ import annotations

import json

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.allocations import Holder
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from tests.api.conftest import Book, booking_of
from tests.conftest import KEY, OTHER_KEY, SHARD, SaleMaker
from tests.support.shop.orders import OTHER
from tests.support.wire import Answer, Door

LONG_MS = 5_000.0
"""A copy that lasts for a whole test."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With copies."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"copy_ms": LONG_MS})})


@pytest.fixture
async def event(open_sale: SaleMaker) -> EventView:
    made = await open_sale(GA=50, VIP=5)
    assert made.shard == SHARD
    return made


def request_of(method: str, path: str, key: str = KEY, *more: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *more]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(door: Door, method: str, path: str, key: str = KEY, *more: str, body: bytes = b"") -> Answer:
    wire = await door.connect().send(request_of(method, path, key, *more, body=body)).quiet()
    (answer,) = wire.answers(heads=method == "HEAD")
    return answer


def available(answer: Answer) -> list[int]:
    return [tier["available"] for tier in json.loads(answer.body)["tiers"]]


@pytest.mark.wire
@pytest.mark.parametrize("what", ["one", "all"])
async def test_what_has_not_changed_is_not_sent_again(door: Door, event: EventView, what: str) -> None:
    """By GET and by HEAD, among others' tags, weakened by a proxy, or whatever it is."""
    path = f"/v1/events/{event.id}" if what == "one" else "/v1/events"
    first = await ask(door, "GET", path)
    tag = first.headers["etag"]
    assert first.status == 200 and first.headers["cache-control"] == "private, max-age=1"
    for known in (tag, f'"other", W/{tag}', "*"):
        for method in ("GET", "HEAD"):
            again = await ask(door, method, path, KEY, f"If-None-Match: {known}")
            assert (again.status, again.body) == (304, b""), (method, known)
            assert again.headers["etag"] == tag
            assert again.headers["cache-control"] == "private, max-age=1"
            assert "content-length" not in again.headers and "content-type" not in again.headers
    two_lines = await ask(door, "GET", path, KEY, 'If-None-Match: "other"', f"If-None-Match: {tag}")
    assert two_lines.status == 304
    for other in ('"other"', tag[:-1], f"{tag}x", ""):
        assert (await ask(door, "GET", path, KEY, f"If-None-Match: {other}")).status == 200, other
    head = await ask(door, "HEAD", path)
    assert (head.status, head.headers["etag"], head.body) == (200, tag, b"")
    assert head.headers["content-length"] == first.headers["content-length"]


@pytest.mark.wire
async def test_a_connection_goes_on_behind_a_304(door: Door, event: EventView) -> None:
    """Which has no body, and no length."""
    path = f"/v1/events/{event.id}"
    tag = (await ask(door, "GET", path)).headers["etag"]
    wire = door.connect()
    await wire.send(request_of("GET", path, KEY, f"If-None-Match: {tag}") + request_of("GET", path)).quiet()
    assert [answer.status for answer in wire.answers()] == [304, 200]


@pytest.mark.wire
async def test_who_may_not_see_an_event_is_told_nothing_of_its_tag(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """Though there is a copy for others, and whatever is known of it."""
    path = f"/v1/events/{event.id}"
    assert (await ask(door, "GET", path, OTHER_KEY)).status == 200
    await office.sharing.unshare(event.id, OTHER)
    tag = (await ask(door, "GET", path)).headers["etag"]
    for known in (tag, "*"):
        refused = await ask(door, "GET", path, OTHER_KEY, f"If-None-Match: {known}")
        assert refused.status == 404 and "etag" not in refused.headers
        assert (await ask(door, "GET", path, "no.key", f"If-None-Match: {known}")).status == 401


@pytest.mark.wire
async def test_no_shop_is_shown_what_another_one_may_take(door: Door, office: BoxOffice, event: EventView) -> None:
    """What is set aside for a shop it alone sees; the answer to one is not given to the other."""
    await office.allocations.create(event.id, event.tiers[0].id, Holder(shop=OTHER), 20)
    path = f"/v1/events/{event.id}"
    for _ in range(2):
        mine, theirs = await ask(door, "GET", path), await ask(door, "GET", path, OTHER_KEY)
        assert (available(mine), available(theirs)) == ([30, 5], [50, 5])
    crossed = await ask(door, "GET", path, KEY, f"If-None-Match: {theirs.headers['etag']}")
    assert crossed.status == 200


@pytest.mark.wire
async def test_reads_of_a_moment_share_a_copy_and_a_change_of_ones_own_ends_it(
    door: Door, office: BoxOffice, event: EventView
) -> None:
    """A booking is seen once the copy is old; what this process has changed of the event, at once, by event and by list."""
    path = f"/v1/events/{event.id}"
    first = await ask(door, "GET", path)
    body = json.dumps(booking_of(event, 3)).encode()
    assert (await ask(door, "POST", "/v1/bookings", KEY, "Idempotency-Key: k", body=body)).status == 202
    assert (await ask(door, "GET", path)).body == first.body, "the copy lasts for five seconds here"
    version = first.headers["etag"]
    changed = await ask(door, "PATCH", path, KEY, f"If-Match: {version}", body=b'{"name": "Another"}')
    assert changed.status == 200, "the tag that was read is good for a change"
    after = await ask(door, "GET", path, KEY, f"If-None-Match: {version}")
    assert (after.status, json.loads(after.body)["name"], available(after)) == (200, "Another", [47, 5])
    (listed,) = json.loads((await ask(door, "GET", "/v1/events")).body)["data"]
    assert listed == json.loads(after.body)
    stale = await ask(door, "PATCH", path, KEY, f"If-Match: {version}", body=b'{"name": "Mine"}')
    assert stale.status == 412


async def test_an_event_that_was_just_made_is_listed_at_once(api: httpx2.AsyncClient, event: EventView) -> None:
    assert len((await api.get("/v1/events")).json()["data"]) == 1
    made = await api.post(
        "/v1/events",
        json={
            "name": "First night", "starts_at": "2035-05-22T19:00:00Z",
            "tiers": [{"code": "GA", "price_cents": 4900, "capacity": 500}],
        },
    )  # fmt: skip
    assert (await api.get(f"/v1/events/{made.json()['id']}")).json()["name"] == "First night"
    assert len((await api.get("/v1/events")).json()["data"]) == 2


async def test_a_pause_is_seen_at_once_where_it_was_made(api: httpx2.AsyncClient, event: EventView, book: Book) -> None:
    path = f"/v1/events/{event.id}"
    assert (await api.get(path)).json()["status"] == "active"
    await api.post(f"{path}/pause")
    assert (await api.get(path)).json()["status"] == "paused"
    await api.post(f"{path}/resume")
    assert (await api.get(path)).json()["status"] == "active"
    assert (await book(event)).status_code == 202
