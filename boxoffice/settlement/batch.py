"""What one worker has claimed at once, how far it has come with it, and what it knows when it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from boxoffice.books.decisions import Claimed, Decision, Known, Terms, Verdict
from boxoffice.settlement.deciding import GatewayOutcome, unfinished
from boxoffice.settlement.spans import BatchTraces
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Payload

__all__ = ["Batch", "Ready", "halves", "parked"]


@dataclass(slots=True)
class Batch:
    """Bookings that one call of claim.lua leased to this worker. Its sets hold booking ids."""

    claims: list[Claimed]
    terms: Terms
    told: Sequence[Pair] = ()
    """What PostgreSQL must have before it decides: the commits that Redis had been told of when this was claimed."""
    tried: set[str] = field(default_factory=set)
    """The gateway was asked for their payments."""
    put_off: set[str] = field(default_factory=set)
    """Left to a later claim."""
    done: set[str] = field(default_factory=set)
    """Redis was told, or a task of its own goes on with them."""
    claimed_s: float = 0.0
    """When it was claimed, in seconds of the clock."""
    leased_s: float = 0.0
    """No later than its leases began, in seconds of the clock."""
    traces: BatchTraces | None = None
    """Of those of its bookings that are traced; None when none is."""
    keeps_traces: bool = True
    """Whether PostgreSQL takes them."""

    def released(self, claim: Claimed, delay_ms: int) -> Decision:
        """Undecided: to be claimed again after a while, with what must not be forgotten of this claim."""
        payload = unfinished(claim, tried=claim.record.id in self.tried)
        return Decision(claim, Verdict.RELEASE, payload, delay_ms)


def halves(claims: list[Claimed]) -> tuple[list[Claimed], list[Claimed]]:
    """Of two or more that fail together: tried apart, and halved again where they fail, they end at the offender."""
    middle = len(claims) // 2
    return claims[:middle], claims[middle:]


def parked(claim: Claimed) -> Decision:
    """Out of the way, its stock kept, until an operator decides."""
    return Decision(claim, Verdict.PARK, Payload())


class Ready(NamedTuple):
    """Bookings that can be decided, and the facts about them by booking id."""

    claims: list[Claimed]
    known: Mapping[str, Known]
    outcomes: Mapping[str, GatewayOutcome]

    def only(self, claims: list[Claimed]) -> Ready:
        """Some of them."""
        return self._replace(claims=claims)

    def and_(self, others: Ready) -> Ready:
        """These and the others."""
        return Ready(self.claims + others.claims, {**self.known, **others.known}, {**self.outcomes, **others.outcomes})
