"""The gateway of a rush, as its customers meet it: the page of 3-D Secure, and the webhooks that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.gateway.simulator.simulator import Simulator
from ops.rush.http_client import HttpClient, NoAnswer, NotSent

__all__ = ["Act", "in_their_place", "press_the_button", "wait_for_deliveries"]

Act: TypeAlias = Callable[[str], Awaitable[Any]]
"""Goes through 3-D Secure at the address that the booking names."""

LOOK_S: Final = 0.1

TRIES: Final = 5

_tally = msgspec.json.Decoder(Tally)


def press_the_button(bank: HttpClient) -> Act:
    """As a customer does, on the gateway's own page: a webhook tells us of it."""

    async def act(url: str) -> None:
        path = f"/actions/{_payment_key(url)}"
        for _ in range(TRIES):
            try:
                if (await bank.request("POST", path)).status == 303:
                    return
            except (NotSent, NoAnswer):
                pass
            await asyncio.sleep(LOOK_S)

    return act


def in_their_place(gateway: object) -> Act | None:
    """In the simulator itself, where no page is known. Nobody is told. None for other gateways."""
    if not isinstance(gateway, Simulator):
        return None
    simulator = gateway

    async def act(url: str) -> None:
        await simulator.complete_action(_payment_key(url))

    return act


async def wait_for_deliveries(bank: HttpClient, token: str, timeout_s: float) -> tuple[Tally | None, list[str]]:
    """Wait until no webhook is on its way or held back. How it went, and what did not come to rest."""
    clock = asyncio.get_running_loop().time
    end, tally = clock() + timeout_s, None
    shown = b"Authorization: Bearer %b\r\n" % token.encode()
    while clock() < end:
        try:
            tally = _tally.decode((await bank.request("GET", "/v1/deliveries", shown)).body)
            if not tally.waiting:
                return tally, []
        except (NotSent, NoAnswer):
            pass
        await asyncio.sleep(LOOK_S)
    return tally, [
        f"{tally.waiting} webhooks on their way" if tally else "the gateway does not say how its webhooks go"
    ]


def _payment_key(url: str) -> str:
    return url.rpartition("/")[2]
