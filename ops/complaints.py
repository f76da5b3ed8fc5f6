"""What went wrong, in one sentence for who typed a command: what to do, and never a statement or its values."""

from __future__ import annotations

from typing import Final

__all__ = ["sentence_of"]

_BY_STATE: Final = {
    "42P01": "The schema is not up to date: run `boxoffice migrate`.",
    "42703": "The schema is not up to date: run `boxoffice migrate`.",
    "55P03": "Somebody uses a table or row that is to be changed. Nothing was changed: try again a little later.",
    "57014": "It took longer than it may, and nothing was changed: try again a little later.",
    "42501": "This PostgreSQL role may not do that: it needs the rights of the tables' owner.",
    "25006": "PostgreSQL is read-only: a standby, or set so. Point DATABASE_URL to the primary.",
    "3D000": "There is no such database: create it, or look at DATABASE_URL.",
    "28P01": "PostgreSQL refuses the user or the password: look at DATABASE_URL.",
    "28000": "PostgreSQL refuses the user or the password: look at DATABASE_URL.",
}
"""By PostgreSQL's SQLSTATE."""


def sentence_of(error: BaseException) -> str:
    """The error's own first line, or for one of PostgreSQL's what it means here. Libraries add statements and values
    behind it."""
    cause: BaseException | None = error
    while cause is not None:
        said = _BY_STATE.get(str(getattr(cause, "sqlstate", None) or ""))
        if said:
            return said
        # SQLAlchemy's own text has the statement in it; the driver's is in `orig`.
        inner = getattr(cause, "orig", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    origin = getattr(error, "orig", None)
    told = origin if isinstance(origin, BaseException) else error
    while told.__cause__ is not None and hasattr(error, "orig"):
        told = told.__cause__
    first = (str(told).splitlines() or [""])[0]
    return f"{type(told).__name__}: {first}" if first else type(told).__name__
