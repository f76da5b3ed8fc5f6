"""Which shops sell an event: the one that owns it, and those that it is shared with.

Like every change of an event: one transaction under the lock of its row, then mirrored with the event itself, so that the
map of every process tells who may sell it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from boxoffice.errors import Malformed, NotFound
from boxoffice.sales import history
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.control import Actor, Control
from boxoffice.stores.database import Connection, Row

__all__ = ["Sharing"]

_SHARE: Final = (
    "INSERT INTO event_shares (event_id, client_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING client_id"
)

_UNSHARE: Final = "DELETE FROM event_shares WHERE event_id = $1 AND client_id = $2 RETURNING client_id"


class Sharing:
    """Shares events with other shops."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def share(self, event_id: str, client: str, by: Actor | None = None) -> EventView:
        """Let another shop see and sell the event from now on. Asked for again, it changes nothing.

        Raises `NotFound` (event or shop), `Malformed` for the shop that owns it, and as `Control.change_event`.
        """

        async def change(connection: Connection, event: Row) -> bool:
            if client == event["client_id"]:
                raise Malformed("The event is this shop's own.", pointer="/shop")
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM clients WHERE id = $1)", client):
                raise NotFound("There is no such client.")
            return await connection.fetchval(_SHARE, event_id, client) is not None

        return await self._changed(event_id, by, "share", [None, client], change)

    async def unshare(self, event_id: str, client: str, by: Actor | None = None) -> EventView:
        """Take the event from a shop that it was shared with: what that shop has booked stays its own. Raises as `share`."""

        async def change(connection: Connection, _: Row) -> bool:
            return await connection.fetchval(_UNSHARE, event_id, client) is not None

        return await self._changed(event_id, by, "unshare", [client, None], change)

    async def _changed(
        self, event_id: str, by: Actor | None, action: str, shop: list[str | None],
        change: Callable[[Connection, Row], Awaitable[bool]],
    ) -> EventView:  # fmt: skip
        by = by or Actor.operator()

        async def work(connection: Connection) -> None:
            event = await self._control.lock(connection, event_id, by)
            if await change(connection, event):
                await connection.execute(
                    "UPDATE events SET version = version + 1, updated_at = now() WHERE id = $1", event_id
                )
                await history.write(connection, event_id, None, by.name, action, {"shop": shop})

        return await self._control.committed(event_id, work)
