"""What the customers saw: for every idempotency key whether it was accepted, refused, or nobody can say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from boxoffice import ids

__all__ = ["Entry", "History", "quantile"]

PROBLEMS_MAX = 1_000
"""Wrong answers that are kept; a run with more is broken anyway."""


@dataclass(slots=True)
class Entry:
    """One idempotency key, from its first request to the last thing its customer saw."""

    key: str
    customer: str = ""
    code: str = ""
    """The access code that was sent along."""
    client: str = ""
    """The shop that it was asked of."""
    doubt: bool = False
    """Some request under this key was never answered, or with 5xx: it may have been carried out whatever came later."""
    refused: str = ""
    """Type of the refusal that ended it."""
    ids: list[str] = field(default_factory=list)
    """Bookings that answers named. More than one different breaks the promise of the key."""
    status: str = ""
    """The last status that was seen."""
    confirmed: bool = False
    """Whether it was ever told that it is confirmed."""
    may_change: bool = False
    """A final status may still change: its customer cancelled or paid late."""

    @property
    def accepted(self) -> str:
        """The booking's id, when it was accepted."""
        return self.ids[0] if self.ids else ""

    @property
    def outcome(self) -> str:
        """`ok`, `refused` or `unknown`."""
        if self.ids:
            return "ok"
        return "refused" if self.refused else "unknown"


class History:
    """Everything that customers remember of one rush."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.entries: list[Entry] = []
        self.problems: list[str] = []
        """Answers that should not have been: a 500, a refusal that is no problem+json, a wrong refusal (I8)."""
        self.refusals: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.retries = 0
        self.replays = 0
        self.unanswered = 0
        self.holds_changed = 0
        """Holds that were given other items."""
        self.changed_after_decline = 0
        """Of these, those of which a payment had been declined."""
        self.booked_again = 0
        """Holds that were cancelled, and all of whose tickets were then had once more."""
        self.not_given_back: list[str] = []
        """Bookings of a customer and a code that nobody else uses, refused because of what had been given back before."""
        self.post_s: list[float] = []
        """From the intended time of a booking's first request to its first definite answer."""
        self.final_s: list[float] = []
        """From acceptance to the first look that showed a final status. Plain cards only: trouble takes its time."""
        self.waits: list[tuple[float, float, str]] = []
        """The same, with when it was accepted (seconds after the start) and the booking, for whoever asks why."""
        self.sold_at: list[tuple[float, float]] = []
        """When a request was sent and when it was accepted."""
        self.reads = 0
        self.forgotten: frozenset[str] = frozenset()
        """Holds that nobody had tried to pay when a Redis that lacks them was put back: beyond the promise."""
        self.left: dict[tuple[str, str], dict[str, int]] = {}
        """By client and event, once all have gone: tickets of each tier that a shop is told it may sell."""
        self.redis_went_back = False
        """Whether an older Redis was put back, or is about to be."""

    def open(self, key: str, customer: str = "", code: str = "", client: str = "") -> Entry:
        """A key is about to be used, for a booking of this customer with this access code, of the rush's shop or another."""
        entry = Entry(key, customer, code, client or self.client)
        self.entries.append(entry)
        return entry

    def complain(self, problem: str) -> None:
        """An answer was wrong."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    @property
    def clients(self) -> list[str]:
        """Every shop that somebody asked."""
        return sorted({self.client, *(entry.client for entry in self.entries)})

    def outcomes(self) -> Counter[str]:
        """How many keys ended how."""
        return Counter(entry.outcome for entry in self.entries)

    def accepted(self) -> dict[str, Entry]:
        """Booking id to what its customer knows."""
        return {booking: entry for entry in self.entries for booking in entry.ids}

    def refused_digests(self) -> dict[str, Entry]:
        """Digest of every key that was refused for certain: no booking may ever bear it."""
        return {
            ids.digest(entry.key): entry for entry in self.entries if entry.outcome == "refused" and not entry.doubt
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
