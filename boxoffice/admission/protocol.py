"""What admit.lua reads and what it answers. Nobody else writes or reads its slots, neither tests nor bench.

`Codec.encode` turns a call into keys and arguments in the order of the script's header, and `decode` gives the parts of its
reply names; outcomes.py does the same for the result of each booking. What a slot means is said in the header of
lua/admit.lua.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from boxoffice.stores import keys
from boxoffice.stores.shard import Shard

__all__ = [
    "Call",
    "Codec",
    "Kind",
    "Member",
    "Reply",
    "Request",
    "Sizes",
    "booking_kind",
    "decode",
    "question",
    "question_kind",
    "sizes_of",
    "written",
]


class Kind(NamedTuple):
    """What many bookings of a call have in common: their event, and a text that the script is told once."""

    event: str
    text: str


def booking_kind(
    event: str, *, client: str, hold_ms: int, prices: Iterable[int], items: str, unpaid_max: Iterable[int] = (),
    expected: int | None = None, coded: bool = False, rate: str = "",
) -> Kind:  # fmt: skip
    """A shop's bookings that are held for so long, or settled at once when `hold_ms` is 0. `prices` are of one ticket of each
    item, in minor units: when one has changed, they are refused; `expected` is what the shop thinks that all of it costs, when
    that is another amount. `coded`: each has an access code.

    `unpaid_max` are tickets that the customer, and the client, may have and not paid for, and those that the client gives up
    before it may have fewer; the last may be left out, and all of them. `rate` is the text of the API key's `Allowance`.
    """
    lasts = ":".join(map(str, (hold_ms, *unpaid_max)))
    costs = ",".join(map(str, prices)) + ("" if expected is None else f":{expected}")
    letter = f"{'H' if hold_ms else 'P'}{'C' if coded else ''}"
    return Kind(event, f"{letter}|{lasts}|{costs}|{client}|{items}{_rated(rate)}")


def question_kind(event: str, items: str, client: str, rate: str = "") -> Kind:
    """A shop's questions whether such items are left: nothing is taken."""
    return Kind(event, f"Q|0|0|{client}|{items}{_rated(rate)}")


def _rated(rate: str) -> str:
    return f"|{rate}" if rate else ""


def question(fingerprint: str, items: str, owner: str = "0") -> str:
    """What a question has in place of a record: enough to find its key's first use, what is asked for, and who asks."""
    return f"=|0|{fingerprint}||{owner}|{items}|"


class Member(Protocol):
    """One booking of a call, or one question."""

    kind: Kind
    packed: str
    """The record behind its deadline, as `pack_rest` or a booking template writes it; or a `question`."""
    record_key: str
    """Ends with the booking's id."""
    idempotency_key: str
    access_code: str
    """Its code's digest; empty without one."""


class Call(NamedTuple):
    """One call of the script."""

    tiers: Mapping[str, str]
    """Per event its tiers' ids, comma-separated: in this order the reply says what is left."""
    members: Sequence[Member]


class Request(NamedTuple):
    """A call as the script gets it."""

    keys: list[str]
    args: list[Any]


SIZES_AT: Final = 4
"""How many arguments are the same in every call of a shard. Then come the sizes of this one, and what is in it."""

_OF_A_CALL: Final = ("events", "kinds", "codes", "forms")


class Codec:
    """Writes the calls of one shard. The keys and arguments that every call has are computed once."""

    def __init__(self, here: Shard, pending_max: int) -> None:
        """Raises `TypeError` when the script's header names other slots, or a call's own not last."""
        empty = here.call("admit", pending_max=pending_max, events=0, kinds=0, codes="", keys=[], forms=[])
        self.script = empty.script
        if self.script.args[SIZES_AT:] != _OF_A_CALL:
            raise TypeError(f"admit.lua takes {', '.join(_OF_A_CALL)} last, from its argument {SIZES_AT + 1} on")
        self._shard = here.number
        self._keys, self._args = empty.keys, empty.args[:SIZES_AT]

    def encode(self, call: Call) -> Request:
        """Keys and arguments. Each kind, and each code of an event, is written once, in the order of its first member."""
        shard, tiers = self._shard, call.tiers
        events = {event: index for index, event in enumerate(tiers, 1)}
        all_keys = [*self._keys]
        for event in tiers:
            all_keys += (keys.event(shard, event), keys.owners(shard, event))
        kinds: dict[Kind, int] = {}
        codes: dict[str, dict[str, int]] = {event: {} for event in tiers}
        forms: list[str] = []
        places: list[int] = []
        for member in call.members:
            kind = member.kind
            index = kinds.get(kind) or kinds.setdefault(kind, len(kinds) + 1)
            code = member.access_code
            if code:
                known = codes[kind.event]
                places.append(known.get(code) or known.setdefault(code, len(known) + 1))
            else:
                places.append(0)
            forms.append(f"{index}|{member.packed}")
            all_keys += (member.record_key, member.idempotency_key)
        common = [f"{events[event]}|{text}" for event, text in kinds]
        digests: list[str | bytes] = [f"k{code}" for each in codes.values() for code in each]
        if digests:
            digests.append(_written_places(places))
        counts = ",".join([str(len(each)) for each in codes.values()])
        return Request(
            all_keys, [*self._args, len(events), len(kinds), counts, *tiers.values(), *common, *digests, *forms]
        )  # fmt: skip


def _written_places(places: list[int]) -> bytes:
    """One for each, or two when one is not enough."""
    return bytes(places) if max(places) < 256 else b"".join([place.to_bytes(2) for place in places])


class Sizes(NamedTuple):
    """How much is in a call."""

    events: int
    kinds: int
    members: int


def sizes_of(args: Sequence[Any]) -> Sizes:
    """Read the sizes from a call's arguments: for tests that answer in place of the script."""
    events, kinds = map(int, args[SIZES_AT : SIZES_AT + 2])
    codes = sum(map(int, filter(None, args[SIZES_AT + 2].split(","))))
    return Sizes(events, kinds, len(args) - SIZES_AT - 3 - events - kinds - codes - bool(codes))


# ---------------------------------------------------------------------- the reply


class Reply(NamedTuple):
    """What the script answers while its gate is open."""

    now_ms: int
    results: list[Any]
    """Per member `outcomes.CREATED`, or what `outcome_of` reads. Who is refused alike has the same."""
    left: list[list[int]]
    """Per event, tickets left of each tier, never less than 0; nothing where nobody was admitted."""
    behind: int
    """Bookings that are due and claimed by no worker."""
    admissions: int
    """So far, in this shard."""
    counted: dict[str, int]
    """Bookings that each API key of the call, by its prefix, has asked for in this window; of those that are counted."""


def decode(reply: Any) -> Reply:
    """Give the parts names. Raises `ValueError` or `TypeError` when it is no such reply."""
    _, now, results, left, behind, admissions, rates = reply
    counts = [[max(0, int(count or 0)) for count in counts] for counts in left]
    if int in map(type, results):
        results = [results[each - 1] if type(each) is int else each for each in results]
    counted = {key.decode(): count for key, count in zip(rates[::2], rates[1::2], strict=True)} if rates else {}
    return Reply(int(now), results, counts, behind, admissions, counted)


def written(reply: Reply) -> list[Any]:
    """Write a reply as the script sends it: for tests that answer in place of the script."""
    left = [[b"%d" % count for count in counts] for counts in reply.left]
    counted = [part for key, count in reply.counted.items() for part in (key.encode(), count)]
    return [b"open", b"%d" % reply.now_ms, reply.results, left, reply.behind, reply.admissions, counted]
