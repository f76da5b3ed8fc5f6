"""What an audit found: one finding for each invariant, held or broken, with evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["TITLES", "Finding", "Findings"]

EVIDENCE_MAX: Final = 10
"""Lines of evidence that are kept for an invariant. More of them are counted."""

TITLES: Final = {
    "I1": "Redis: available + held + sold = total, none negative, at every sample",
    "I2": "PostgreSQL: sold = tickets of confirmed bookings, never more than there are",
    "I3": "Both stores count the same",
    "I4": "Every accepted booking is in one final state that its client can read",
    "I5": "One idempotency key, one booking, one payment",
    "I6": "The gateway's books and ours agree; nobody paid for nothing, nothing is left open",
    "I7": "Tickets of bookings that failed, expired or were cancelled came back exactly once",
    "I8": "Errors are problems, none is a 500; no card number or key is written anywhere",
    "I9": "At rest nothing is left over",
    "I10": "What is owed is known: each refund is paid, on its way, owed, or written off by a person",
    "I11": "What was told confirmed is confirmed, was cancelled since, or was withdrawn and told so",
    "I12": "What an operator changes is in force: no other price or capacity, and nothing is let in during a pause",
    "I13": "No access code and no customer has more tickets than allowed; what is given back may be had again",
    "I14": "What is set aside for a shop or a code nobody else takes, and what is not, everybody may have",
    "I15": "What a shop was told, replayed from the start, is what the tables say of bookings, payments, refunds and events",
}


@dataclass(slots=True)
class Finding:
    """One invariant."""

    name: str
    title: str
    broken: int = 0
    evidence: list[str] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    """What was compared, so that `held` is known to mean something."""

    @property
    def held(self) -> bool:
        """Whether nothing speaks against it."""
        return self.broken == 0

    def blame(self, evidence: str) -> None:
        """Something speaks against it."""
        self.broken += 1
        if len(self.evidence) < EVIDENCE_MAX:
            self.evidence.append(evidence)


class Findings:
    """All of them."""

    def __init__(self) -> None:
        self._all = {name: Finding(name, title) for name, title in TITLES.items()}
        self.parked: list[str] = []
        """Bookings that wait for an operator: neither lost nor final."""
        self.undecided: frozenset[str] = frozenset()
        """Bookings whose customer or gateway has time left to answer: neither lost nor late."""
        self.duplicates = 0
        """Bookings admitted again after Redis forgot their key, written as such."""

    def __getitem__(self, name: str) -> Finding:
        return self._all[name]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._all.values())

    @property
    def held(self) -> bool:
        """Whether every invariant held."""
        return all(finding.held for finding in self._all.values())

    @property
    def broken(self) -> list[str]:
        """Names of those that did not."""
        return [finding.name for finding in self._all.values() if not finding.held]
