"""Finds out what the API under test can do, so that the simulated customers of a rush ask for nothing else."""

from __future__ import annotations

import json

from ops.rush.http_client import HttpClient, NoAnswer, NotSent
from ops.rush.sale import Sale

__all__ = ["knows_holds"]


async def knows_holds(api: HttpClient, sale: Sale) -> bool:
    """Whether a booking without payment is held (201). The one that is made for this runs out in a second."""
    tier = sale.events[0].tiers[2]
    body = json.dumps({"customer_id": "first", "items": [{"tier_id": tier.id, "quantity": 1}], "hold_s": 1}).encode()
    headers = (
        f"Authorization: Bearer {sale.api_key}\r\nContent-Type: application/json\r\nIdempotency-Key: first\r\n"
    ).encode()
    try:
        answer = await api.request("POST", "/v1/bookings", headers, body)
        if answer.status != 201:
            return False
        path = f"/v1/bookings/{json.loads(answer.body)['id']}/cancel"
        return (await api.request("POST", path, headers)).status == 200
    except (NotSent, NoAnswer):
        return False
