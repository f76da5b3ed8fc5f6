"""What Redis refuses, and for what: full, a replica, or a right that our user lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from boxoffice.telemetry.outages import outages

__all__ = ["OPTIONAL", "lacks_right", "note_refusal", "refusal", "refused_command", "without_notes"]

_TAKEN: Final = {OutOfMemoryError: "OOM", ReadOnlyError: "READONLY"}

OPTIONAL: Final = frozenset({"client|setname", "config|get", "msetex", "role", "select"})
"""Commands that nobody misses: what they tell is found by other means, or is stated, or they are not sent at all."""


_LACKS: Final = re.compile(r"(?:ACL failure in script|Transaction discarded because of: NOPERM)\b")
"""How Redis says it of a command in a script, and of `EXEC`."""

_COMMAND: Final = re.compile(r"run the '([a-z_|]{1,40})' command")
_NOTES: ContextVar[bool] = ContextVar("notes refusals", default=True)


def refusal(error: RedisError) -> str:
    """The first word of what Redis answered (OOM, MISCONF, WRONGTYPE): the rest may hold data. Empty when it did not answer.

    The client takes the words that it knows off the text, and names the error's class for them.
    """
    if lacks_right(error):
        return "NOPERM"
    first = str(error).split(" ", 1)[0] if isinstance(error, ResponseError) else ""
    return next((word for kind, word in _TAKEN.items() if isinstance(error, kind)), first)


def lacks_right(error: object) -> bool:
    """Whether a command, of ours or in a script of ours, is refused for want of a right."""
    return isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and bool(_LACKS.match(str(error))))


def refused_command(error: ResponseError) -> str:
    """The command that our user may not run, as an ACL names it; empty when it is a key that it may not use."""
    found = _COMMAND.search(str(error))
    return found[1] if found else ""


@contextmanager
def without_notes() -> Iterator[None]:
    """Within it nothing is logged of rights that our user lacks: who asks for them says what it finds."""
    token = _NOTES.set(False)
    try:
        yield
    finally:
        _NOTES.reset(token)


def note_refusal(error: ResponseError) -> None:
    """Whoever met it may wait and try again: which right it is that our user lacks is said here, for all of them."""
    if lacks_right(error) and _NOTES.get() and (command := refused_command(error)) not in OPTIONAL:
        outages.missed("rights", command or "a key", "redis")
