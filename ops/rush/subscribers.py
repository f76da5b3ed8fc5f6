"""Shops of a rush that are told what happens: each has a server that takes webhooks and a program that follows the feed, and
loses both for a while. In the end it has every notice, once or more, and none that is not its own."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from boxoffice.errors import CannotRun
from ops.rush.follower import Follower
from ops.rush.http_client import HttpClient
from ops.rush.shop_server import ShopServer

__all__ = ["Absence", "Subscriber", "Subscribers", "draw_absence", "lines_of_subscribers"]

AWAY_S: Final = 60.0
"""In a rush that is shorter than this, a third of it."""

BEGINS: Final = (0.1, 0.5)
"""Share of the time in which an absence begins. It may end when nobody buys any more."""

LOOK_S: Final = 0.2


class Absence(NamedTuple):
    """When a shop loses its server, in seconds from the start, and for how long."""

    at_s: float
    seconds: float


def draw_absence(seconds: float, chance: random.Random) -> Absence:
    """Of a rush of so many seconds."""
    return Absence(chance.uniform(*BEGINS) * seconds, AWAY_S if seconds >= AWAY_S else seconds / 3)


class Subscriber:
    """One shop."""

    def __init__(
        self, client: str, api_key: str, apis: Sequence[HttpClient], port: int, seconds: float, chance: random.Random
    ) -> None:
        self.client = client
        self.absence = draw_absence(seconds, chance)
        self.server = ShopServer(port, chance)
        self.follower = Follower(apis, api_key, chance)
        self._api = apis[0]
        self._headers = f"Authorization: Bearer {api_key}\r\nContent-Type: application/json\r\n".encode()

    async def subscribe(self) -> None:
        """To all that happens, and has happened. Raises `CannotRun`."""
        await self.server.come()
        body = json.dumps({"url": self.server.url, "begin": "start"}).encode()
        answer = await self._api.request("POST", "/v1/webhook-endpoints", self._headers, body)
        if answer.status != 201:
            raise CannotRun(f"A shop could not subscribe: {answer.status} {answer.body[:300].decode()}")
        self.server.believe(json.loads(answer.body)["secret"])

    async def live(self, start: float) -> None:
        """Listen, be away, and come back, at its times by the loop's clock."""
        following = asyncio.create_task(self.follower.follow())
        clock = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(max(0.0, start + self.absence.at_s - clock()))
            self.server.go()
            self.follower.stop()
            await asyncio.sleep(self.absence.seconds)
            await self.server.come()
            self.follower.resume()
            await following
        finally:
            following.cancel()

    async def lacks(self) -> str:
        """What its feed has by now, and its server has not; empty: nothing."""
        if not await self.follower.catch_up():
            return f"shop {self.client} cannot read its feed"
        lacking = {notice["id"] for notice in self.follower.copy} - self.server.taken.keys()
        return f"shop {self.client} was not told of {len(lacking)} notices, {sorted(lacking)[:3]}" if lacking else ""

    @property
    def faults(self) -> list[str]:
        """What it should never have been told."""
        return self.server.faults + self.follower.faults


class Subscribers:
    """All of a rush; none is a rush in which nobody listens."""

    def __init__(
        self, shops: Mapping[str, str], apis: Sequence[HttpClient], ports: Sequence[int], seconds: float, seed: int
    ) -> None:  # fmt: skip
        """`shops`: client to API key. Without ports nobody listens."""
        self.all = [
            Subscriber(client, api_key, apis, port, seconds, random.Random(f"shop-{seed}-{number}"))
            for number, ((client, api_key), port) in enumerate(zip(shops.items(), ports, strict=False))
        ]
        self._lives: list[asyncio.Task[None]] = []

    async def subscribe(self) -> None:
        """Each of them. Raises `CannotRun`."""
        for one in self.all:
            await one.subscribe()

    def begin(self, start: float) -> None:
        """Let them live."""
        self._lives = [asyncio.create_task(one.live(start)) for one in self.all]

    async def come_to_rest(self, start: float, timeout_s: float) -> list[str]:
        """Wait until each has come back and has all that its feed has. Empty; or what somebody lacks after the timeout."""
        clock = asyncio.get_running_loop().time
        back = max((start + sum(one.absence) for one in self.all), default=0.0)
        if self._lives:
            # Somebody's end before that is a failure.
            await asyncio.wait(self._lives, timeout=max(0.0, back + LOOK_S - clock()), return_when="FIRST_COMPLETED")
        await self.end()
        end = clock() + timeout_s
        while True:
            unrest = [line for one in self.all if (line := await one.lacks())]
            if not unrest or clock() > end:
                return unrest
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Their programs end; their servers listen on. Raises what one of them failed of."""
        for life in self._lives:
            life.cancel()
        for ended in await asyncio.gather(*self._lives, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        self._lives = []

    def close(self) -> None:
        """Nobody listens any more."""
        for life in self._lives:
            life.cancel()
        for one in self.all:
            one.server.go()

    def figures(self) -> dict[str, float]:
        """For the report; empty where nobody listens."""
        if not self.all:
            return {}
        return {
            "shops": len(self.all),
            "notices": sum(len(one.follower.copy) for one in self.all),
            "taken": sum(len(one.server.taken) for one in self.all),
            "again": sum(one.server.again for one in self.all),
            "lost": sum(one.server.lost for one in self.all),
            "away_s": round(max(one.absence.seconds for one in self.all), 1),
            "ends": sum(one.follower.ends for one in self.all),
            "anew": sum(one.follower.anew for one in self.all),
        }


def lines_of_subscribers(figures: Mapping[str, float]) -> Iterator[str]:
    """The figures, for people."""
    if figures:
        yield (
            "  told       {notices} notices to {shops} shops: {taken} taken by webhook, {again} again, {lost} lost at first; "
            "away for {away_s:g} s; the feed followed over {ends} ends, {anew} times from the oldest"
        ).format(**figures)
