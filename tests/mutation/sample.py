"""A seeded sample: as many mutants of each room as it has lines, and of each kind of mistake alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from random import Random

from tests.mutation.mutant import Mutant
from tests.mutation.python_mutants import Drafts
from tests.mutation.rooms import ROOT, files_of, room_of
from tests.mutation.text_mutants import lua_mutants, sql_mutants

__all__ = ["sample"]

_ROOM_MIN = 8
"""Below that a room's share says nothing."""
_WEIGHTS = {"mutmut arg_removal": 2.0, "drop guard": 2.0, "sibling": 2.0, "drop statement": 2.0, "drop operand": 2.0,
            "shard zero": 2.0, "drop keyword": 2.0, "sql condition": 3.0, "sql element": 2.0, "sql slot": 0.5,
            "lua sibling": 1.5, "lua line": 2.0, "lua guard": 2.0}  # fmt: skip


class _Deck:
    """The mutants of one file, by kind."""

    def __init__(self, path: str, *, sql: bool) -> None:
        source = (ROOT / path).read_text()
        self._drafts = None
        self._kinds: dict[str, list[Mutant | int]] = defaultdict(list)
        if sql or path.endswith(".lua"):
            for mutant in sql_mutants(path, source) if sql else lua_mutants(path, source):
                self._kinds[mutant.kind].append(mutant)
        else:
            self._drafts = Drafts(path, source)
            for at, (kind, _, _) in enumerate(self._drafts.found):
                self._kinds[kind].append(at)

    def draw(self, random: Random, word: str) -> Mutant | None:
        """One that was not drawn before, or None when it is no program."""
        kinds = sorted(kind for kind, left in self._kinds.items() if left and word in kind)
        if not kinds:
            return None
        kind = random.choices(kinds, [_WEIGHTS.get(kind, 1.0) for kind in kinds])[0]
        left = self._kinds[kind]
        found = left.pop(random.randrange(len(left)))
        return self._drafts.mutant(found) if isinstance(found, int) and self._drafts else found  # type: ignore[return-value]


def _shares(lines: Counter[str], n: int) -> dict[str, int]:
    """How many of each room: by its lines, but never fewer than eight."""
    least = min(_ROOM_MIN, n // max(1, len(lines)))
    rest, whole = n - least * len(lines), lines.total()
    shares = {room: least + int(rest * count / whole) for room, count in lines.items()}
    for room, _ in lines.most_common():
        if sum(shares.values()) < n:
            shares[room] += 1
    return shares


def _files(only: list[str]) -> Iterator[tuple[str, str, int]]:
    """Rooms with their files and how much there is to change in them."""
    for path in only or files_of():
        source = (ROOT / path).read_text()
        yield room_of(path), path, len(source.splitlines())
        if path.endswith(".py"):
            statements = sum(1 for mutant in sql_mutants(path, source))
            if statements:
                yield "sql", path, statements


def sample(n: int, seed: int, only: list[str], kind: str = "") -> list[Mutant]:
    """`n` mutants, in an order that mixes the rooms; the same for the same seed and tree."""
    random = Random(seed)
    rooms: dict[str, list[tuple[str, int]]] = defaultdict(list)
    lines: Counter[str] = Counter()
    for room, path, weight in _files(only):
        rooms[room].append((path, weight))
        # Statements are short and each of their mistakes weighs: about five of them make a line of Python.
        lines[room] += weight if room != "sql" else weight * 2
    deck = lru_cache(maxsize=None)(_Deck)
    found: list[Mutant] = []
    for room, share in sorted(_shares(lines, n).items()):
        seen: set[str] = set()
        for _ in range(share * 20):
            if len(seen) == share:
                break
            path = random.choices([path for path, _ in rooms[room]], [weight for _, weight in rooms[room]])[0]
            mutant = deck(path, sql=room == "sql").draw(random, kind)
            if mutant and mutant.before != mutant.after and mutant.mutated not in seen:
                seen.add(mutant.mutated)
                found.append(mutant)
    random.shuffle(found)
    return found
