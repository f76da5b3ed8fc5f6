"""A rush to watch: somebody at the operators' page asks for a simulated on-sale, and looks how it goes.

`boxoffice up` plays it, in a process of its own, where it runs servers of its own: nobody else has the folder in its data
directory by which both know of each other, and there the API knows no rushes. A wish is a file that only one can make; how it
goes is another, written anew several times a second. Neither holds anything of a customer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from boxoffice.errors import Malformed
from boxoffice.wire.strict import read_strictly

__all__ = [
    "ENDED",
    "KilledView",
    "RushDesk",
    "RushFinding",
    "RushState",
    "RushTerms",
    "TierCount",
    "Wish",
    "parse_rush",
]

RATE_MAX: Final = 150
"""Customers a second, on average: what a laptop plays, and serves, at the same time. At the opening they are many more."""

BOUNDS: Final = {"customers": (100, 6_000), "seconds": (5, 60), "trouble": (0, 0.5)}


class RushTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """What is wished for."""

    customers: int = 1_500
    seconds: int = 20
    """How long they arrive."""
    tickets: Literal["few", "many"] = "few"
    """`few`: everything sells out. `many`: the biggest tier does not."""
    trouble: float = 0.05
    """Share of troublesome cards."""
    dies: Literal["nobody", "worker", "api"] = "worker"
    """Who is killed in the middle of it. The supervisor starts it again."""


class TierCount(Struct, frozen=True):
    """Tickets of a tier, over all events of the rush, as Redis counts them."""

    code: str
    total: int
    sold: int
    held: int
    """Of bookings that are held or pending."""
    available: int


class KilledView(Struct):
    """Somebody was killed."""

    name: str
    at_s: float
    back_s: float | None = None
    """Seconds until its successor ran; None: not yet."""


class RushFinding(Struct, frozen=True):
    """One invariant, as the audit found it."""

    name: str
    title: str
    held: bool
    looked_at: list[str] = []
    evidence: list[str] = []


Status = Literal["starting", "selling", "settling", "auditing", "held", "broken", "failed"]

ENDED: Final = ("held", "broken", "failed")
"""The last ones: every invariant held; one was broken; it could not be played."""


class RushState(Struct):
    """How a rush goes, or went."""

    id: str
    terms: RushTerms
    status: Status = "starting"
    began_at: str = ""
    elapsed_s: float = 0.0
    arrivals: int = 0
    accepted: int = 0
    refused: dict[str, int] = {}
    """By the last part of the problem's type."""
    tiers: list[TierCount] = []
    killed: list[KilledView] = []
    findings: list[RushFinding] = []
    error: str = ""


class Wish(Struct, frozen=True):
    """One rush that is wished for."""

    id: str
    terms: RushTerms


def parse_rush(body: bytes) -> RushTerms:
    """The terms. Raises `Malformed`."""
    terms = read_strictly(body or b"{}", RushTerms)
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(terms, name) <= most:
            raise Malformed(f"It may be from {least} to {most}.", pointer=f"/{name}", code="out_of_range")
    if terms.customers > RATE_MAX * terms.seconds:
        raise Malformed(
            f"More than {RATE_MAX} customers a second are too many.", pointer="/customers", code="out_of_range"
        )
    return terms


class RushDesk:
    """The folder by which who wishes and who plays know of each other."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "rush"
        self._wish = self.folder / "wish.json"
        self._state = self.folder / "state.json"

    # ------------------------------------------------------------------ who wishes

    @property
    def there(self) -> bool:
        """Whether anybody here plays rushes."""
        return self.folder.is_dir()

    def ask_for(self, terms: RushTerms) -> bool:
        """Wish for one. False: one is being played, or about to be."""
        wish = Wish(secrets.token_hex(8), terms)
        draft = self.folder / f"{wish.id}.new"
        draft.write_bytes(msgspec.json.encode(wish))
        try:
            os.link(draft, self._wish)  # fails where there is one: of two at once, one is the first
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def state(self) -> RushState | None:
        """How the one that is wished for goes, or else the last one went; None before the first."""
        wish, state = self.wish(), None
        with contextlib.suppress(FileNotFoundError):
            state = msgspec.json.decode(self._state.read_bytes(), type=RushState)
        if wish is not None and (state is None or state.id != wish.id):
            return RushState(wish.id, wish.terms)
        return state

    # ------------------------------------------------------------------ who plays

    def open(self) -> None:
        """From now on rushes are played here. What was left by one that crashed is gone."""
        self.close()
        self.folder.mkdir(mode=0o700)

    def close(self) -> None:
        """No more."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    def wish(self) -> Wish | None:
        """What is wished for."""
        try:
            return msgspec.json.decode(self._wish.read_bytes(), type=Wish)
        except FileNotFoundError:
            return None

    def write(self, state: RushState) -> None:
        """How it goes."""
        draft = self.folder / "state.new"
        draft.write_bytes(msgspec.json.encode(state))
        draft.replace(self._state)

    def done(self) -> None:
        """It has ended, and another may be wished for."""
        self._wish.unlink(missing_ok=True)
