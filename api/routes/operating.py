"""What operators see and do over HTTP, about every shop's sales: the page at `/ops` lives on these routes alone.

One file because every route here is entered by an operator, and is a few lines.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from api import ops_schemas as schemas
from api.dependencies import BEARER, Caller, Office, respond, respond_json
from api.refusals import problem_responses, with_headers
from api.routes.managing import named, read, takes
from api.schemas import Booking, Refund
from api.transport.reply import JSON, NO_STORE, Reply
from boxoffice.backoffice.figures import Sold
from boxoffice.backoffice.operating import HISTORY_MAX, refused_as_not_done
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.repair.reconcile import EventReport
from boxoffice.wire import operating_requests as requests
from boxoffice.wire import render
from boxoffice.wire.hold_requests import parse_nothing
from boxoffice.wire.parameters import bad_parameter, parse_idempotency_key

__all__ = ["router"]

router = APIRouter(prefix="/v1/ops", tags=["operators"], dependencies=[BEARER, Depends(named)])

FOUND_MAX: Final = 20
"""Bookings that one search shows."""

_AWAY: Final = ("unauthorized", "gate-closed", "store-away")
_REFUSALS: Final = ("malformed-request", *_AWAY, "not-found", "not-done")


def _by(caller: Caller) -> str:
    """As the history tells it."""
    return f"key:{caller.allowance.api_key}"


def _shows(model: type[Any], *slugs: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": model, "headers": with_headers()}, **problem_responses(*(slugs or _REFUSALS))}


@router.get("/figures", summary="Read how it goes", responses=_shows(schemas.Figures, *_AWAY))
async def read_figures(office: Office, caller: Caller) -> Response:
    """Counts and states of all processes and both stores at one moment. Looked at once a second at most, however many ask."""
    return respond_json(await office.watching.figures())


@router.get("/alerts", summary="Read the alerts", responses=_shows(schemas.Alerts, *_AWAY))
async def read_alerts(office: Office, caller: Caller) -> Response:
    """The alert rules, by the same figures. What they ask of the last minutes is known while somebody looks."""
    return respond_json({"data": office.alerts.look(await office.watching.figures())})


@router.get(
    "/history",
    summary="Read who did what",
    responses=_shows(schemas.OperatorsHistory, "malformed-request", *_AWAY),
)
async def read_deeds(
    office: Office, caller: Caller, limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 50
) -> Response:
    """What operators did at bookings, and changes of events, whoever made them: the newest first."""
    return respond_json({"data": await office.operating.history(limit)})


# ---------------------------------------------------------------------- one booking


@router.get(
    "/bookings",
    summary="Find bookings",
    responses=_shows(schemas.FoundBookings, "malformed-request", "card-data-not-accepted", "overloaded", *_AWAY),
)
async def find_bookings(
    office: Office, caller: Caller,
    text: Annotated[str, Query(description="A booking's id, reference, customer, payment or refund.")],
    ended: Annotated[bool, Query(description="Also holds that ended unpaid and are not forgotten yet.")] = False,
) -> Response:  # fmt: skip
    """Bookings of any shop, by whatever a customer or a bank statement tells."""
    if not text.isprintable():
        raise bad_parameter("This text cannot be looked for.", "text", "malformed")
    async with office.database.answering():
        found = await office.finder.find(text, FOUND_MAX, ended=ended)
    return respond_json({"data": [_match(each) for each in found.matches], "redis_away": found.redis_away})


@router.get("/bookings/{booking_id}", summary="Read all that is known of a booking", responses=_shows(schemas.Dossier))
async def read_dossier(booking_id: str, office: Office, caller: Caller) -> Response:
    """Redis's record, PostgreSQL's rows and the gateway's answer, side by side."""
    body = msgspec.json.encode(await office.dossiers.of(booking_id), enc_hook=str)
    return respond(Reply(200, body, [JSON, NO_STORE]))


@router.post(
    "/bookings/{booking_id}/cancel",
    summary="Cancel at the desk",
    responses=_shows(Booking, *_REFUSALS, "card-data-not-accepted"),
    openapi_extra=takes("DeskCancelRequest", {"reason": "The customer asked by phone."}, conditional=False),
)
async def cancel_at_desk(booking_id: str, request: Request, office: Office, caller: Caller) -> Response:
    """Cancel a booking of any shop, after its event's terms."""
    reason = requests.parse_desk_cancel(await read(office, request), office.settings)
    with refused_as_not_done():
        async with office.database.answering():
            view = await office.desk.cancel(booking_id, _by(caller), reason)
    return respond(Reply(200, render.booking(view), [JSON, NO_STORE]))


@router.post(
    "/bookings/{booking_id}/refund",
    status_code=202,
    summary="Refund at the desk",
    responses=_shows(Refund, *_REFUSALS, "card-data-not-accepted", status=202),
    openapi_extra={
        **takes("DeskRefundRequest", {"items": "all", "reason": "The seat was broken."}, conditional=False),
        "parameters": [
            {"name": "Idempotency-Key", "in": "header", "required": True, "schema": {"type": "string"},
             "description": "The same key refunds once, however often it is sent."},
        ],
    },
)  # fmt: skip
async def refund_at_desk(booking_id: str, request: Request, office: Office, caller: Caller) -> Response:
    """Refund a confirmed booking of any shop at full price, whatever its event's terms say."""
    key = parse_idempotency_key([value for name, value in request.headers.raw if name == b"idempotency-key"])
    wanted = requests.parse_desk_refund(await read(office, request), office.settings)
    with refused_as_not_done():
        async with office.database.answering():
            done = await office.desk.refund(booking_id, _by(caller), wanted.items, wanted.reason, key)
    return respond(Reply(202, render.refund(done), [JSON, NO_STORE]))


# ---------------------------------------------------------------------- parked bookings


@router.get("/parked", summary="List parked bookings", responses=_shows(schemas.ParkedList, *_AWAY, "not-done"))
async def list_parked(office: Office, caller: Caller) -> Response:
    """Bookings that could not be settled: they keep their tickets, and wait for a word."""
    return respond_json({"data": [_parked(letter) for letter in await office.operating.parked()]})


@router.post("/parked/{booking_id}/retry", status_code=202, summary="Try a parked booking again",
             responses=_shows(schemas.RetriedParked, status=202))  # fmt: skip
async def retry_parked(booking_id: str, request: Request, office: Office, caller: Caller) -> Response:
    """Let a worker try it again now, as often as at first."""
    parse_nothing(await read(office, request))
    await office.operating.retry(booking_id, _by(caller))
    return respond_json({"booking_id": booking_id}, 202)


@router.post("/parked/{booking_id}/fail", summary="Fail a parked booking", responses=_shows(schemas.FailedParked))
async def fail_parked(booking_id: str, request: Request, office: Office, caller: Caller) -> Response:
    """End it: its payment is let go, it fails with the code `poison`, and its tickets go on sale again, once."""
    parse_nothing(await read(office, request))
    ended = await office.operating.fail(booking_id, _by(caller))
    return respond_json(
        {"booking_id": ended.booking, "payment": ended.payment, "written": ended.written, "stock": ended.stock}
    )


# ---------------------------------------------------------------------- one event


@router.get("/events/{event_id}", summary="Read an event in figures", responses=_shows(schemas.SaleInFigures))
async def read_sale(event_id: str, office: Office, caller: Caller) -> Response:
    """Tickets, money, bookings and customers of one event: what a change of it would touch."""
    async with office.database.answering():
        stats = await office.figures.stats(event_id)
    return respond_json(
        {
            "event_id": event_id, "tiers": [_sold(tier) for tier in stats.tiers], "bookings": stats.bookings,
            "customers": stats.customers, "busiest_minute": stats.busiest_minute, "busiest_bookings": stats.busiest_bookings,
        }
    )  # fmt: skip


@router.post(
    "/events/{event_id}/reconcile",
    summary="Reconcile an event",
    responses=_shows(schemas.Reconciled),
    openapi_extra=takes("ReconcileRequest", {"fix": False}, conditional=False),
)
async def reconcile_event(event_id: str, request: Request, office: Office, caller: Caller) -> Response:
    """Compare its counters with PostgreSQL, while it is sold; with `fix`, mend them. Of a shard whose gate is shut nothing is
    compared here: workers fill it, or an operator at a terminal."""
    fix = requests.parse_reconcile(await read(office, request))
    return respond_json(_report(await office.operating.reconcile(event_id, _by(caller), fix=fix)))


def _match(match: Any) -> dict[str, Any]:
    return {"client_id": match.client, "found_by": match.by, "booking": msgspec.Raw(render.booking(match.view))}


def _sold(tier: Sold) -> dict[str, Any]:
    shown = tier._asdict()
    for name in ("event", "name", "period"):
        del shown[name]
    return {"tier_id": shown.pop("tier"), **shown}


def _parked(letter: DeadLetter) -> dict[str, Any]:
    record = letter.record
    return {
        "booking_id": letter.booking, "parked_at": letter.parked_at, "error": letter.error, "attempts": letter.attempts,
        "event_id": record and record.event, "client_id": record and record.body.client,
        "tickets": record and sum(line.quantity for line in record.body.lines),
        "amount_cents": record and record.body.amount_cents, "currency": record and record.body.currency,
    }  # fmt: skip


def _report(report: EventReport) -> dict[str, Any]:
    tiers = [
        {"tier_id": tier.tier, "code": tier.code, "found": tier.found._asdict(), "expected": tier.expected._asdict(),
         "drift": tier.drift._asdict()}
        for tier in report.tiers
    ]  # fmt: skip
    return {"event_id": report.event, "result": report.word, "settled": report.settled, "moved": report.moved,
            "oversold": report.oversold, "tiers": tiers}  # fmt: skip
