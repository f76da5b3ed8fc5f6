"""A simulated on-sale, asked for from the operators' page. There only where `boxoffice up` runs servers of its own."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from api.dependencies import Client, Office, respond_json
from api.routes.managing import read
from api.rushes import RushDesk, parse_rush
from boxoffice.errors import NotFound
from boxoffice.office import BoxOffice

__all__ = ["router"]

router = APIRouter(prefix="/v1/ops/rushes", include_in_schema=False)
"""No shop's client has a use for them."""


@router.post("")
async def start_rush(request: Request, office: Office, client: Client) -> Response:
    """202 with the one that is started; 200 with the one that is being played: there is one at a time."""
    desk = _desk(office)
    terms = parse_rush(await read(office, request))
    started = await asyncio.to_thread(desk.ask_for, terms)
    return respond_json({"rush": await asyncio.to_thread(desk.state)}, 202 if started else 200)


@router.get("")
async def read_rush(office: Office, client: Client) -> Response:
    """How the one that is being played goes, or else the last one went; `null` before the first."""
    return respond_json({"rush": await asyncio.to_thread(_desk(office).state)})


def _desk(office: BoxOffice) -> RushDesk:
    desk = RushDesk(office.settings.data_dir)
    if not desk.there:
        raise NotFound("No rush can be started here: boxoffice up plays them, on servers of its own.")
    return desk
