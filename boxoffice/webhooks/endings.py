"""The end of an endpoint that its shop did not ask for: it is disabled, and the shop hears of it in every other way."""

from __future__ import annotations

from boxoffice.notices.writing import write
from boxoffice.stores.database import Connection
from boxoffice.webhooks import leases

__all__ = ["end"]


async def end(connection: Connection, endpoint: str, reason: str) -> None:
    """In the caller's transaction. Nothing when it was disabled before."""
    if client := await leases.disable(connection, endpoint, reason):
        await write(connection, client, "webhook_endpoint.disabled", {"endpoint_id": endpoint, "reason": reason})
