"""What went back of a payment at the simulator: refunds and disputes, as they stand in the payment's word.

Entries separated by commas, the one that changed last at the end. A name alone is something that met a server error
under its first idempotency key. Else `name=cents`, followed by a letter if the money is not simply back, and by `~` and
a time in ms if that changes by itself:

- no letter: succeeded; `l`: succeeded, and fails at that time; `f`: failed
- `p`: pending, and succeeds then; `q`: pending, and fails then
- `t`: not there yet, and made at the gateway itself then
- of a dispute, whose name begins with `!`: `t` not there yet, `o` open

Pure functions over words, as in `scenario.py`; not remembered, for few payments have any of this.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from boxoffice.gateway.base import (
    DisputeSeen,
    Done,
    Pending,
    Refund,
    RefundSeen,
    RefundStatus,
    Refused,
    Reversals,
    first_key,
)
from boxoffice.gateway.simulator.scenario import ERROR, REPLAYED, State, read
from boxoffice.gateway.webhooks import EventKind

__all__ = ["TIMED", "at_the_gateway", "planned", "refund", "reversals", "ripen", "took_back"]

TIMED: Final = "~"
"""Stands in a word in which something changes by itself."""

_AT_GATEWAY: Final = "dash"
"""Begins the name of a refund that somebody made at the gateway itself."""

_STATUS: Final[dict[str, RefundStatus]] = {
    "": "succeeded",
    "l": "succeeded",
    "f": "failed",
    "p": "pending",
    "q": "pending",
}

_RIPE: Final = {"p": "", "q": "f", "l": "f", "t": ""}
"""A letter to what it becomes when its time has come."""

_REASON: Final = {"f": "expired_or_canceled_card", "p": "processing", "q": "processing"}


class _Entry(NamedTuple):
    cents: int | None
    letter: str = ""
    at_ms: int = 0

    @property
    def text(self) -> str:
        at = f"{TIMED}{self.at_ms}" if self.at_ms else ""
        return "" if self.cents is None else f"={self.cents}{self.letter}{at}"


def refund(
    word: str | None, refund_key: str, amount_cents: int, now_ms: int, later_ms: int, number: int = 0
) -> tuple[str | None, Refund]:
    """The word to write if any, and the answer. `number`: how many idempotency keys this refund had before."""
    if word is None or word[0] != "C":
        return None, Refused("not_captured")
    state, entries = read(word), _entries(read(word))
    alive = (name for name, each in entries.items() if _is_alive(each) and first_key(name) == first_key(refund_key))
    refund_key = next(alive, refund_key)
    given = entries.get(refund_key)
    if given is not None and given.cents is not None:
        return None, _answer(refund_key, given) if given.cents == amount_cents else Refused("already_refunded")
    left = state.captured_cents - state.refunded_cents
    if not 0 < amount_cents <= left:
        return None, Refused("refund_too_large" if left else "charge_already_refunded")
    behaviour, first = state.behaviour, "-" not in refund_key
    if behaviour == "refund_refused" or (behaviour == "refund_refused_once" and first):
        return None, Refused("refund_failed")
    if behaviour == "refund_error" and number == 0 and first:
        return (_word(state, entries, refund_key, _Entry(None)), ERROR) if given is None else (None, REPLAYED)
    letter = {"refund_pending": "p", "refund_pending_fails": "q", "refund_fails_late": "l"}.get(behaviour, "")
    made = _Entry(amount_cents, letter, now_ms + later_ms if letter else 0)
    return _word(state, entries, refund_key, made), _answer(refund_key, made)


def at_the_gateway(word: str | None, amount_cents: int, now_ms: int) -> str | None:
    """The word after somebody has refunded so much at the gateway itself; None when so much is not left."""
    if word is None or word[0] != "C":
        return None
    state, entries = read(word), _entries(read(word))
    if not 0 < amount_cents <= state.captured_cents - state.refunded_cents:
        return None
    return _word(state, entries, f"{_AT_GATEWAY}{now_ms}x{len(entries)}", _Entry(amount_cents))


def planned(word: str, at_ms: int) -> str:
    """The word of a payment that was just captured, with what is to happen to it by itself."""
    state = read(word)
    name = "!dispute" if state.behaviour == "disputed" else _AT_GATEWAY
    cents = state.captured_cents if name[0] == "!" else max(1, state.captured_cents // 2)
    return _word(state, {}, name, _Entry(cents, "t", at_ms))


def ripen(word: str, now_ms: int) -> str | None:
    """The word after one of the changes whose time has come; None when there is none."""
    if TIMED not in word:
        return None
    state, entries = read(word), _entries(read(word))
    for name, entry in entries.items():
        if entry.cents is not None and entry.at_ms and entry.at_ms <= now_ms:
            letter = "o" if name[0] == "!" else _RIPE[entry.letter]
            cents = entry.cents
            if entry.letter == "t" and name[0] != "!":
                cents = min(cents, state.captured_cents - state.refunded_cents)
                letter = letter if cents else "f"
            return _word(state, entries, name, _Entry(cents, letter))
    return None


def reversals(word: str, payment_key: str) -> Reversals:
    """Refunds and disputes as look-ups and audits see them."""
    refunds, disputes = [], []
    for name, entry in _entries(read(word)).items():
        if entry.cents is None or entry.letter == "t" or not entry.cents:
            continue
        if name[0] == "!":
            disputes.append(DisputeSeen(f"simdp_{payment_key[:20]}", entry.cents, "needs_response", "fraudulent", True))
            continue
        key = None if name.startswith(_AT_GATEWAY) else name
        reason = _REASON.get(entry.letter)
        refunds.append(RefundSeen(key, f"simre_{name}", entry.cents, _STATUS[entry.letter], reason))
    return Reversals(tuple(refunds), tuple(disputes))


def took_back(state: State) -> EventKind | None:
    """What the last change to a captured payment was: `refunded`, `refund_failed`, `disputed`; None for none of these,
    or for one that nobody hears of."""
    name, entry = next(reversed(_entries(state).items()), ("", _Entry(None)))
    if entry.cents is None or entry.letter == "t":
        return None
    if name[0] == "!":
        return "disputed"
    return "refund_failed" if entry.letter == "f" else "refunded"


def _is_alive(entry: _Entry) -> bool:
    return entry.cents is not None and entry.letter not in ("f", "t")


def _answer(name: str, entry: _Entry) -> Refund:
    status = _STATUS[entry.letter]
    if status == "failed":
        return Refused(_REASON["f"])
    reference = f"simre_{name}"
    return Pending(reference, _REASON[entry.letter]) if status == "pending" else Done(reference)


def _entries(state: State) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for text in state.refunds.split(","):
        name, has_value, value = text.partition("=")
        if not has_value:
            found |= {name: _Entry(None)} if name else {}
            continue
        amount, _, at_ms = value.partition(TIMED)
        letter = amount[-1] if amount[-1].isalpha() else ""
        found[name] = _Entry(int(amount.removesuffix(letter)), letter, int(at_ms or 0))
    return found


def _word(state: State, entries: dict[str, _Entry], name: str, entry: _Entry) -> str:
    """The state with one entry changed, which comes last."""
    after = {other: each for other, each in entries.items() if other != name} | {name: entry}
    cents = sum(each.cents or 0 for other, each in after.items() if other[0] != "!" and each.letter not in ("f", "t"))
    listed = ",".join(f"{other}{each.text}" for other, each in after.items())
    return state._replace(refunded_cents=cents, refunds=listed).word
