"""Which gateway's books a payment stands in: `simulator/<ledger>`, `stripe/<mode>/<account>`.

A payment row remembers it, and no other gateway is asked about it: another account, another mode or another ledger knows
nothing of the payment, which must not be taken for "no money moved". As long as the gateway has not said whose books it
keeps, only the beginning is known; rows of earlier versions have the kind alone (`http` is a simulator, too).
"""

from __future__ import annotations

__all__ = ["WRITTEN_IN", "same_books", "written_in"]

WRITTEN_IN = "(gateway = ANY({0}::text[]) OR starts_with(gateway, {1}))"
"""SQL for "this row of payments stands in our books"; its two parameters come from `written_in`."""


def same_books(row: str, ours: str) -> bool:
    """Whether both may be the same: one is the other, or its beginning."""
    first, second = (["simulator" if part == "http" else part for part in name.split("/")] for name in (row, ours))
    return all(one == other for one, other in zip(first, second, strict=False))


def written_in(ours: str) -> tuple[list[str], str]:
    """The parameters of `WRITTEN_IN`: what we and those before us wrote for these books, and how more exact names begin."""
    parts = ours.split("/")
    names = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return [*names, "http"] if parts[0] == "simulator" else names, f"{ours}/"
