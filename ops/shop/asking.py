"""How the shop asks the API: under its secret key, with a limit of time, and never guessing what became of a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import httpx2
from starlette.responses import Response

from ops.shop.problems import problem
from ops.shop.terms import Terms

__all__ = ["Api"]

_PASSED_ON: Final = ("retry-after", "idempotency-replayed", "preference-applied", "x-request-id")
"""Headers of an answer that the page is to see."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

OWNERS_MAX: Final = 10_000
"""Bookings of which this process remembers whose they are. A shop has a table of its orders for that."""


class Api:
    """The API, as the shop's back end sees it."""

    def __init__(self, terms: Terms, client: httpx2.AsyncClient | None = None) -> None:
        limits = httpx2.Timeout(terms.answer_s, connect=2.0)
        self._client = client or httpx2.AsyncClient(base_url=terms.api_url, timeout=limits, trust_env=False)
        self._authorization = f"Bearer {terms.secret_key}"
        self._owners: dict[str, str] = {}

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def ask(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Response:  # fmt: skip
        """The API's answer, for the page. Where there is none, a problem that says so: 503 when nothing was sent, 504 when
        nobody knows what became of it. The page sends the same request again then, with the same idempotency key."""
        sent = {"Authorization": self._authorization, **(headers or {})}
        try:
            answer = await self._client.request(method, path, json=body, headers=sent, params=params)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return problem(503, "away", "The box office cannot be reached. Nothing was sent.", retry_after=1)
        except httpx2.TransportError:
            return problem(504, "not-known-yet", "The box office did not answer: what became of this is not known yet.",
                           retry_after=1)  # fmt: skip
        if answer.status_code == 401 or (answer.status_code == 403 and _is(answer, "forbidden")):
            # It is this shop's key that was refused, not the customer: whoever runs the shop has to mend it.
            return problem(502, "shop-key", "The box office refuses the key of this shop.")
        passed = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        kind = answer.headers.get("content-type", "application/json")
        return Response(answer.content, answer.status_code, passed, kind)

    async def owned(self, booking: str, customer: str) -> Response | None:
        """None when the booking is this customer's; else the answer that says why not. Another's booking is answered as one
        that does not exist."""
        if not _ID.fullmatch(booking):
            return _unknown()
        owner = self._owners.get(booking)
        if owner is None:
            found = await self.ask("GET", f"/v1/bookings/{booking}")
            if found.status_code != 200:
                return _unknown() if found.status_code == 404 else found
            owner = self.remember(found)
        return None if owner == customer else _unknown()

    def remember(self, answer: Response) -> str:
        """Whose booking this is, of an answer that shows one; empty of any other."""
        shown = httpx2.Response(200, content=bytes(answer.body)).json() if answer.status_code < 300 else None
        if not isinstance(shown, dict) or "customer_id" not in shown:
            return ""
        if len(self._owners) >= OWNERS_MAX:
            del self._owners[next(iter(self._owners))]
        self._owners[str(shown["id"])] = str(shown["customer_id"])
        return str(shown["customer_id"])


def _unknown() -> Response:
    return problem(404, "not-found", "You have no such booking.")


def _is(answer: httpx2.Response, slug: str) -> bool:
    try:
        return bool(answer.json()["type"] == f"/problems/{slug}")
    except (ValueError, KeyError, TypeError):
        return False
