"""Streams of requests, mangled and cut anywhere: every way into the application gives the same answers and the same
bookings."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from api.transport import slowing
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import RateSettings, Settings
from tests.api.conftest import booking_of
from tests.conftest import KEY, SaleMaker
from tests.support.wire import WAYS, Answer, Door, alike

WARM = 6
"""Bookings after which a connection takes those like them without a look at each header."""


pytestmark = pytest.mark.wire


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One customer books more than any would, and of three ways that are asked the same the last would be refused first."""
    return settings.model_copy(update={"rates": RateSettings(customer_max=0)})


@pytest.fixture
async def events(open_sale: SaleMaker) -> dict[str, EventView]:
    """One for each way: all may sell the same."""
    return {way: await open_sale(GA=1_000_000) for way in WAYS}


EVENT, TIER = b"EVENT-OF-WAY", b"TIER-OF-WAY0"
"""Stand for the event of a way and its tier, and are as long."""

HEAD = b"Host: shop.example\r\nAuthorization: Bearer %b\r\n" % KEY.encode()


def post(target: bytes, body: bytes, key: bytes = b"KEY", more: bytes = b"") -> bytes:
    head = (
        b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nIdempotency-Key: %b\r\n%bContent-Length: %d\r\n\r\n"
    )
    return head % (target, HEAD, key, more, len(body)) + body


def requests_of(body: bytes) -> list[bytes]:
    """What streams are made of."""
    book, get = post(b"/v1/bookings", body), b"GET %b HTTP/1.1\r\n" + HEAD + b"%b\r\n"
    chunked = b"POST /v1/bookings HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nIdempotency-Key: KEY\r\n"
    chunked += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return [
        book, book, book, post(b"/v1/bookings", body, b"KEY2"), post(b"/v1/bookings", body, more=b"X-Trace: 1\r\n"), chunked,
        post(b"/v1/bookings", body, more=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), post(b"/v1/bookings", b"{}"),
        post(b"/v1/bookings", body, more=b"Expect: 100-continue\r\n"), post(b"/v1/bookings", b"x" * 17_000),
        post(b"/v1/bookings", body, more=b"Origin: https://shop.example\r\n"), get % (b"/v1/events/" + EVENT, b""),
        get % (b"/v1/bookings/nobody", b""), get % (b"/healthz", b"Connection: close\r\n"), get % (b"/v1/events?limit=0", b""),
        get % (b"/nothing", b"Content-Length: 3\r\n") + b"abc", post(b"/v1/bookings/x/cancel", b""),
        post(b"/v1/bookings", body, more=b"Origin: https://evil.example\r\n"), b"HEAD /healthz HTTP/1.1\r\n" + HEAD + b"\r\n",
        get % (b"/v1/events/" + EVENT, b"Origin: null\r\n"), b"OPTIONS /v1/bookings HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"OPTIONS /v1/bookings HTTP/1.1\r\nOrigin: null\r\nAccess-Control-Request-Method: POST\r\n" + HEAD + b"\r\n",
        post(b"/v1/bookings", b"\xef\xbb\xbf" + body), post(b"/v1/bookings", body.decode().encode("utf-16")),
        post(b"/v1/bookings", body.replace(b"Ada", b"\xff")), post(b"/v1/bookings?x=1", body), post(b"/v1/bookings/", body),
        post(b"/v1/%62ookings", body), post(b"//v1/bookings", body), get % (b"/v1/bookings/../events", b""),
        b"\r\n" + book, chunked.replace(b"\r\n\r\n", b"\r\nTrailer: Authorization\r\n\r\n", 1),
        chunked[:-2] + b"Authorization: Bearer other.secret-of-the-other\r\n\r\n", book.replace(b"1.1", b"1.0"),
        get.replace(b"1.1", b"1.0") % (b"/v1/events/" + EVENT, b"Connection: keep-alive\r\n"),
    ]  # fmt: skip


BITS = (
    b"\r\n", b"\r", b"\n", b" ", b":", b"\0", b"\xff", b"0", b"A", b",", b"Content-Length: 3\r\n", b"Host: y\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Authorization: Bearer x\r\n", b"Idempotency-Key: z\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip


def mangled(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data = data[:at] + chance.choice(BITS) + data[at:]
            case 1:
                data = data[:at] + data[at + chance.randint(1, 5) :]
            case 2:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[: at + chance.randint(1, 30)] + data[at:]
        data = data or b"\0"
    return data


def cut(chance: random.Random, data: bytes) -> list[bytes]:
    at = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(0, 4)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drops of a request are read as they come: a thousand a second would be minutes."""
    monkeypatch.setattr(slowing, "PIECES_FREE", 1_000_000)


class Fuzz:
    """Each stream in every way, cold and warm, whole and cut; on events of their own."""

    def __init__(self, settings: Settings, office: BoxOffice, events: dict[str, EventView]) -> None:
        self.doors = [Door(way, settings, office) for way in WAYS]
        self.redis = office.redis
        self.names = {way: (event.id.encode(), event.tiers[0].id.encode()) for way, event in events.items()}
        body = booking_of(events["lane"])
        body["items"][0]["tier_id"] = TIER.decode()
        self.body = json.dumps(body).encode()

    async def compare(self, chance: random.Random) -> tuple[int, int]:
        """One stream. Returns how many answers and bookings came of it."""
        kinds = requests_of(self.body)
        stream = mangled(chance, b"".join(chance.choice(kinds) for _ in range(chance.randint(1, 4))))
        end = chance.random() < 0.5
        some = sorted(chance.randrange(len(stream)) for _ in range(chance.randint(1, 4)))
        first = await self.answers(self.doors[0], stream, [], 0, end)
        for door in self.doors:
            for warm in (0, WARM):
                for cuts in ([], some, list(range(1, min(len(stream), 900)))):
                    found = await self.answers(door, stream, cuts, warm, end)
                    assert found == first, (door.way, warm, cuts[:5], stream)
        return len(first[0]), int(first[2])

    async def answers(self, door: Door, stream: bytes, cuts: list[int], warm: int, end: bool) -> tuple[Any, ...]:
        """What a client reads, whether the connection has ended, and how many bookings came of it."""
        wire = door.connect()
        for again in range(warm):
            await wire.send(self.of_way(door.way, post(b"/v1/bookings", self.body, b"warm%d" % again))).quiet()
        before = await self.bookings()
        stream = self.of_way(door.way, stream)
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
        answers = (await wire.send(*pieces, end=end).quiet()).answers(heads=True)[warm:]
        over, booked = wire.over, await self.bookings() - before
        wire.hang_up()
        # The next run may use the same idempotency keys.
        if used := await self.redis.keys("{s01}:idem:*"):
            await self.redis.delete(*used)
        return [self.shown(door.way, answer) for answer in answers], over, booked

    async def bookings(self) -> int:
        return int(await self.redis.zcard("{s01}:pend"))

    def of_way(self, way: str, data: bytes) -> bytes:
        event, tier = self.names[way]
        return data.replace(EVENT, event).replace(TIER, tier)

    def shown(self, way: str, answer: Answer) -> tuple[Any, ...]:
        status, headers, body = alike(answer)
        # A list of events has those of the other ways, too.
        for event, tier in self.names.values() if body.startswith(b'{"data":[') else [self.names[way]]:
            body = body.replace(event, EVENT).replace(tier, TIER)
        return status, headers, body


async def fuzz(fuzzed: Fuzz, seed: int, count: int) -> None:
    chance = random.Random(seed)
    answers = bookings = 0
    for _ in range(count):
        more, booked = await fuzzed.compare(chance)
        answers, bookings = answers + more, bookings + booked
    assert answers > count and bookings > count / 4, "most streams say something"


async def test_every_way_answers_and_books_alike(
    settings: Settings, office: BoxOffice, events: dict[str, EventView]
) -> None:
    await fuzz(Fuzz(settings, office, events), 1, 25)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_every_way_answers_and_books_alike_for_long(
    settings: Settings, office: BoxOffice, events: dict[str, EventView]
) -> None:
    for seed in range(100, 110):
        await fuzz(Fuzz(settings, office, events), seed, 100)
