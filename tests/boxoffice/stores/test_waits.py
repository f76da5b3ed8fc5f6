"""Of each error it is known which store somebody waits for, and whether it is one that we live with."""

from __future__ import annotations

import asyncpg
import pytest
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ResponseError

from boxoffice.errors import CannotRun, GateClosed, RunUnchecked, StoreAway
from boxoffice.stores.waits import EXPECTED, waits_for


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "store", "expected"),
    [
        (ConnectionError(), "redis", True), (BusyLoadingError(), "redis", True), (OutOfMemoryError(), "redis", False),
        (ResponseError("WRONGTYPE"), "redis", False),
        (GateClosed(), "gate", True), (RunUnchecked(), "gate", True),
        (OSError(), "postgresql", True), (TimeoutError(), "postgresql", True),
        (asyncpg.CannotConnectNowError(), "postgresql", True), (asyncpg.DeadlockDetectedError(), "postgresql", True),
        (asyncpg.UniqueViolationError(), "postgresql", False),
        (StoreAway(), "", True), (caused(StoreAway(), ConnectionError()), "redis", True),
        (caused(StoreAway(), asyncpg.CannotConnectNowError()), "postgresql", True),
        (caused(CannotRun("x"), OSError()), "postgresql", True),
        (ValueError(), "", False), (KeyError(), "", False),
    ],
)  # fmt: skip
def test_what_is_waited_for(error: Exception, store: str, expected: bool) -> None:
    assert waits_for(error) == store
    assert isinstance(error, EXPECTED) == expected
