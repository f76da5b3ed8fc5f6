"""What is known of a connection between two of its turns: by these its deadlines are kept."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from api.transport.turns import Turns
from boxoffice.settings import ApiSettings, LimitSettings
from boxoffice.telemetry import series

__all__ = ["Condition", "count_refused"]


def count_refused(reason: str) -> None:
    """The connection itself has refused something."""
    series.REFUSED_CONNECTIONS.cell(reason).add()


class Condition(asyncio.Protocol):
    """A new connection: nothing has come, nothing is owed."""

    limits: ClassVar[LimitSettings] = LimitSettings()
    patience: ClassVar[ApiSettings] = ApiSettings()

    draining = False
    """The next answer is the last one, and says so."""

    ended = False
    """The client has sent all it will."""

    lingering = False
    """It was refused, and whatever it still sends is not read."""

    since = 0.0
    """Loop time at which it began to be idle, or to send the request that is arriving, or to be closed."""

    stuck_since = 0.0
    """Loop time from which on it has not read its answers; 0 when it does."""

    stuck_size = 0
    """Bytes of answers that it had not read when we looked last."""

    used = False
    """It has sent something."""

    stage = 0
    """What is arriving: 0 nothing, 1 a head, 2 a body."""

    pieces = 0
    """Small pieces in which the request has come that is arriving."""

    slowed = False
    """What it sends is thrown away, and others' is first."""

    paced = False
    """It sends requests faster than it may."""

    queued = False
    """It has something to read, and waits for its turn."""

    queued_at = 0.0
    """Loop time at which it began to wait for it."""

    overdue = False
    """It has waited too long: its requests of this turn are told so."""

    turns: ClassVar[Turns] = Turns()

    stopping_s = float("inf")
    """Most that may be waited for it, once the process stops."""
