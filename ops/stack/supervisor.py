"""`boxoffice up`: a box office in one command, tended until it is told to stop.

Whoever tends the others must outlive what kills them: a full disk, and a terminal or a pipe that nobody reads any more.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from boxoffice.errors import CannotRun
from boxoffice.secret_files import read_secrets
from boxoffice.settings import misspelt
from boxoffice.telemetry.sink import Sink
from ops.stack.processes import Child
from ops.stack.running import wished_urls
from ops.stack.rushes import Rushes
from ops.stack.signals import Interrupted, StopWatch
from ops.stack.stack import Stack, refuse_busy_port

__all__ = ["Keeper", "up"]

LOOK_S = 0.1
"""How often the supervisor looks whether everybody is alive."""

KIND = "BOXOFFICE_GATEWAY__KIND"

SHOP_URL = "BOXOFFICE_API__SHOP_URL"

SHOP_ABOVE = 80
"""The demo shop listens so far above the API: 8080 beside 8000."""

DEMO_CODE = "PRESALE-KATHMANDU"
"""The access code of the demo shop's presale. Made by `boxoffice seed --demo-shop`, and only there."""

DEMO_KEY = "demo.boxoffice"
"""The API key of the seeded shop. Made by `boxoffice seed --demo-key`, and only there."""


def up(data_dir: Path, port: int, environ: Mapping[str, str] = os.environ, *, shop_port: int = 0) -> None:
    """Start everything, say where, and keep it running until a signal comes. Raises CannotRun if it does not start.

    `shop_port` 0: 80 above `port`, or another one if somebody has that."""
    if wrong := [*misspelt(environ), *read_secrets(environ).wrong]:
        raise CannotRun("; ".join(wrong))
    refuse_busy_port(port)
    if shop_port:
        refuse_busy_port(shop_port, "SHOP_PORT")
    redis_url, database_url = wished_urls(environ)
    with StopWatch(environ) as watch:
        try:
            with Stack(
                data_dir,
                redis_url=redis_url,
                database_url=database_url,
                environ={**environ, "PORT": str(port)},
                check=watch.check,
                hurry=lambda: watch.hurry,
            ) as stack:
                _open(stack, port, shop_port)
                _tend(stack, watch)
        except Interrupted:
            return


def _open(stack: Stack, port: int, shop_port: int) -> None:
    stack.run("migrate")
    gateway = stack.environment().get(KIND, "simulator")
    shop, elsewhere, wished = "", False, port + SHOP_ABOVE
    if stack.embedded and gateway != "stripe":  # whose test cards are others
        named, shop_port = shop_port, shop_port or stack.port_near(wished)
        elsewhere = not named and shop_port != wished
        shop = f"http://127.0.0.1:{shop_port}"
        stack.run("seed", "--demo-key", "--demo-shop", shop)
    elif stack.embedded:
        stack.run("seed", "--demo-key")
    stack.spawn_api(port, env={SHOP_URL: stack.environment().get(SHOP_URL, shop)} if shop else None)
    stack.spawn_worker()
    if shop:
        stack.spawn_shop(shop_port, f"http://127.0.0.1:{port}")
    stack.wait_ready()
    invitation = invite(port, gateway) if stack.embedded else ""
    if shop:
        stack.wait_ready(shop_port, path="/healthz")
        invitation += f"\n{_invite_to(shop, elsewhere, wished)}"
    _print(_voice(sys.stdout), f"boxoffice ready http://127.0.0.1:{port}\n{invitation}\n")


def _invite_to(shop: str, elsewhere: bool, wished: int) -> str:
    why = f" (port {wished} is in use; SHOP_PORT chooses another)" if elsewhere else ""
    return f"The shop front, for buyers: {shop}{why}\nIts presale opens with the access code {DEMO_CODE}.\n"


def _tend(stack: Stack, watch: StopWatch) -> None:
    keepers = [Keeper(component) for component in stack]
    rushes = Rushes(stack)
    try:
        _keep(stack, keepers, rushes, watch)
    finally:
        rushes.stop()


def _keep(stack: Stack, keepers: list[Keeper], rushes: Rushes, watch: StopWatch) -> None:
    changed = False
    while True:
        watch.check()
        rushes.look(time.monotonic())
        started = [keeper.tend(time.monotonic()) for keeper in keepers]
        if changed := changed or any(started):
            with contextlib.suppress(OSError):
                # On a full disk others cannot find the new processes yet; tended they are all the same.
                stack.record()
                changed = False
        time.sleep(LOOK_S)


def _voice(stream: TextIO | None) -> Sink:
    """A stream that never raises, for what `up` says."""
    return Sink(
        getattr(stream, "buffer", None),
        lambda lines, _since, why: f"{lines} lines could not be written here ({why})\n".encode(),
    )


def _print(voice: Sink, text: str) -> None:
    voice.add(text.encode(errors="backslashreplace"))
    voice.flush()


class Keeper:
    """Starts a component again when it dies: at once, and later and later when it keeps dying."""

    FIRST_S = 0.1
    LONGEST_S = 5.0
    """Delays double from the first to the longest; whoever lived longer than twice the longest begins anew."""

    LOG_LOOK_S = 1.0
    """How often its log's size is looked at."""

    def __init__(self, component: Child) -> None:
        self._component = component
        self._delay_s = self.FIRST_S
        self._start_at: float | None = None
        self._started_at = 0.0
        self._look_at_log = 0.0
        self._voice = _voice(sys.stderr)

    def tend(self, now: float) -> bool:
        """Look once; True when it was started again."""
        if now >= self._look_at_log:
            self._look_at_log = now + self.LOG_LOOK_S
            self._component.cap_log()
        if self._component.alive:
            return False
        if self._start_at is None:
            self._notice(now)
        elif now >= self._start_at:
            return self._start(now)
        return False

    def _notice(self, now: float) -> None:
        if now - self._started_at > 2 * self.LONGEST_S:
            self._delay_s = self.FIRST_S
        self._put_off(now, f"ended unexpectedly ({self._component.ending})")

    def _start(self, now: float) -> bool:
        self._start_at = None
        self._started_at = now
        try:
            self._component.start()
        except Exception as error:
            with contextlib.suppress(Exception):
                self._component.stop()
            why = str(error) if isinstance(error, CannotRun) else f"{type(error).__name__}: {error}"
            self._put_off(now, f"did not come back: {why}")
            return False
        return True

    def _put_off(self, now: float, what: str) -> None:
        name = self._component.name
        _print(self._voice, f"{name} {what}; starting it again in {self._delay_s:g} s\n")
        self._start_at = now + self._delay_s
        self._delay_s = min(2 * self._delay_s, self.LONGEST_S)


def invite(port: int, gateway: str) -> str:
    """Lines to copy that book two tickets of the first event that has some, and look what became of them."""
    tier_id = _first_tier(port)
    if tier_id is None:
        return "\nNo event is on sale."
    card = {"method": "card", "card_number": "4242424242424242", "card_name": "Ada Lovelace"}
    if gateway == "stripe":
        card = {"method": "card", "token": "pm_card_visa"}  # of Stripe's test mode; card numbers it does not take
    body = {
        "customer_id": "ada",
        "items": [{"tier_id": tier_id, "quantity": 2}],
        "payment": card,
    }
    authorization = f"Authorization: Bearer {DEMO_KEY}"
    url = f"http://127.0.0.1:{port}/v1/bookings"
    book = ["curl", "-sS", url, "-H", authorization, "-H", f"Idempotency-Key: {uuid.uuid4()}"]
    book += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    poll = shlex.join(["curl", "-sS", "-H", authorization])
    return (
        "\nBook two tickets:\n\n"
        f"  {shlex.join(book)}\n\n"
        "and see what became of the booking, with the id from the answer:\n\n"
        f"  {poll} {url}/<id>\n"
    )


def _first_tier(port: int) -> str | None:
    """The first tier with two tickets left, of the events that have not started."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/v1/events?on_sale=true&limit=100", headers={"Authorization": f"Bearer {DEMO_KEY}"})
        page: Any = json.loads(connection.getresponse().read())
        return next(str(tier["id"]) for event in page["data"] for tier in event["tiers"] if tier["available"] >= 2)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
