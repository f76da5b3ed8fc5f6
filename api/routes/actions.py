"""The simulated bank's page, so that 3-D Secure can be played through with nothing but `make run`."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.dependencies import Office
from boxoffice.bookings.rows import return_url_of
from boxoffice.gateway.base import Found
from boxoffice.gateway.simulator import action_page
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.office import BoxOffice

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_NO_STORE = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"}
"""A shop may show it in a frame."""


@router.get("/actions/{payment_key}")
async def action(payment_key: str, office: Office) -> HTMLResponse:
    """Where `payment.next_action` leads."""
    payment = await _simulator(office).lookup(payment_key, None)
    if not isinstance(payment, Found):
        return HTMLResponse(action_page.UNKNOWN, 404, headers=_NO_STORE)
    return HTMLResponse(action_page.render(payment, await _shop(office, payment_key)), headers=_NO_STORE)


@router.post("/actions/{payment_key}")
async def act(payment_key: str, office: Office) -> HTMLResponse:
    """The customer has pressed the button, and goes back to the shop. A worker sees it at its next look."""
    payment = await _simulator(office).complete_action(payment_key)
    if not isinstance(payment, Found):
        return HTMLResponse(action_page.UNKNOWN, 404, headers=_NO_STORE)
    shop = await _shop(office, payment_key)
    headers = _NO_STORE | {"Location": action_page.way_back(payment, shop)}
    return HTMLResponse(action_page.render(payment, shop), 303, headers=headers)


async def _shop(office: BoxOffice, payment_key: str) -> str:
    return await return_url_of(office.bookings.database, payment_key) or office.settings.gateway.return_url


def _simulator(office: BoxOffice) -> Simulator:
    gateway = office.gateway
    assert isinstance(gateway, Simulator), "the routes are there only with the simulator"
    return gateway
