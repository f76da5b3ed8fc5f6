"""What the shop's back end is told when it starts."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Terms"]


class Terms(NamedTuple):
    """Where the API is, the shop's two keys, and where the shop itself is reached."""

    api_url: str
    """Without a path: `http://127.0.0.1:8000`."""

    secret_key: str
    """Scopes `read`, `book` and `refund`. It never leaves this process."""

    browse_key: str
    """Scope `browse`, for the shop's origins: the page has it, so everybody has."""

    origins: tuple[str, ...]
    """Where the page is served, as browsers say it in `Origin`. Customers come back from the bank to theirs."""

    answer_s: float = 15.0
    """Longest wait for an answer of the API. The page may ask it to wait for 10 seconds, so this is more."""
