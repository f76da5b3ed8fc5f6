"""Which server PostgreSQL is, where it tells, and the name that its database has had from the beginning."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import asyncpg
import pytest

from boxoffice.office import BoxOffice
from boxoffice.stores.installation import installation
from boxoffice.stores.lineage import BOTH_CHANGED, server_of


async def test_a_server_is_its_cluster_and_its_timeline(office: BoxOffice) -> None:
    """Eight hexadecimal digits of the first timeline, and the same each time it is asked."""
    pool = await office.pool()
    name = await server_of(pool)
    system = await pool.fetchval("SELECT system_identifier::text FROM pg_control_system()")
    assert name == f"{system}/00000001"
    assert re.fullmatch(r"[0-9]{15,}/[0-9A-F]{8}", name)
    assert await server_of(pool) == name
    assert BOTH_CHANGED == "both_changed"


class Refusing:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def fetchval(self, _query: str) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "untold"),
    [
        (asyncpg.InsufficientPrivilegeError(), True), (asyncpg.UndefinedFunctionError(), True),
        (asyncpg.FeatureNotSupportedError(), True), (asyncpg.ObjectNotInPrerequisiteStateError(), True),
        (asyncpg.TooManyConnectionsError(), False), (OSError(), False),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
async def test_where_it_does_not_tell_there_is_no_name(error: Exception, untold: bool) -> None:
    """One that is away is another matter."""
    pool: Any = Refusing(error)
    if untold:
        assert await server_of(pool) == ""
    else:
        with pytest.raises(type(error)):
            await server_of(pool)


async def test_an_installation_has_one_name_for_ever(office: BoxOffice) -> None:
    """Whoever asks first gives it, also when many do at once."""
    pool = await office.pool()
    await pool.execute("DELETE FROM installations")
    names = set(await asyncio.gather(*(installation(pool) for _ in range(8))))
    assert len(names) == 1
    (name,) = names
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert await pool.fetchval("SELECT id FROM installations") == name == await installation(pool)
