"""What is traced of a settlement: the batch itself, and in the trace of each sampled booking how it ended there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boxoffice.books.decisions import Claimed, Decision
from boxoffice.telemetry.traces import TRACES, Place, place_of

__all__ = ["BatchTraces", "traces_of"]


class BatchTraces:
    """The traces of a batch's bookings, and the place of the span that the batch will have in a trace of its own."""

    def __init__(self, by_booking: Mapping[str, str]) -> None:
        """`by_booking`: booking id to the `traceparent` in its record."""
        self._by_booking = by_booking
        self._places = {booking: place for booking, text in by_booking.items() if (place := place_of(text)) is not None}
        self._of_batch = TRACES.begin()

    def by_booking(self, decisions: Iterable[Decision]) -> dict[str, str]:
        """Booking id to `traceparent`, of those among these that are traced."""
        return {booking: self._by_booking[booking] for booking, _ in self._of(decisions)}

    def by_payment(self, decisions: Iterable[Decision]) -> dict[str, str]:
        """The same by payment key, of those that are to be captured."""
        return {
            decision.claim.record.payment_key: self._by_booking[booking]
            for booking, decision in self._of(decisions)
            if decision.payment is not None and decision.payment.due == "capture"
        }

    def committed(self, decisions: Iterable[Decision], took_s: float) -> None:
        """A commit has decided these, so long after they were claimed. Who is to be looked at again has no span yet."""
        for booking, decision in self._of(decisions):
            if decision.status == "pending":
                continue
            attributes = {"boxoffice.booking_id": booking, "boxoffice.outcome": decision.status}
            if decision.failure:
                attributes["boxoffice.reason"] = decision.failure
            parent = self._places[booking]
            TRACES.record("settlement", TRACES.begin(parent), parent, took_s, attributes, [self._of_batch])

    def ended(self, shard: int, bookings: int, took_s: float) -> None:
        """The batch is over, well or badly."""
        attributes: dict[str, str | int] = {
            "boxoffice.shard": shard, "boxoffice.members": bookings, "boxoffice.members_sampled": len(self._places),
        }  # fmt: skip
        TRACES.record("settlement batch", self._of_batch, None, took_s, attributes, self._links())

    def _links(self) -> Iterable[Place]:
        return self._places.values()

    def _of(self, decisions: Iterable[Decision]) -> list[tuple[str, Decision]]:
        places = self._places
        return [(booking, decision) for decision in decisions if (booking := decision.claim.record.id) in places]


def traces_of(claims: Sequence[Claimed]) -> BatchTraces | None:
    """Of those of the claims that are traced; None when none is."""
    by_booking = {claim.record.id: claim.record.payload.trace for claim in claims if claim.record.payload.trace}
    return BatchTraces(by_booking) if by_booking else None
