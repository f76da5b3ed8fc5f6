"""The simulated gateway in another process (`boxoffice gateway`), asked over HTTP. See `server.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import httpx2
import msgspec

from boxoffice.gateway.base import (
    KEYS_MAX,
    Authorization,
    AuthorizeRequest,
    Capture,
    CaptureRequest,
    Done,
    Found,
    Lookup,
    NotFound,
    Pending,
    Record,
    Refund,
    Reversals,
    Token,
    Unknown,
    Void,
    first_key,
)
from boxoffice.gateway.calls import in_parallel, within
from boxoffice.gateway.simulator import cards, signing
from boxoffice.gateway.trouble import Trouble
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.settings import GatewaySettings

__all__ = ["HttpGateway"]

_T = TypeVar("_T")

_REPLAYED: Final = "replayed error"

_authorization: msgspec.json.Decoder[Authorization] = msgspec.json.Decoder(Authorization)
_capture: msgspec.json.Decoder[Capture] = msgspec.json.Decoder(Capture)
_void: msgspec.json.Decoder[Void] = msgspec.json.Decoder(Void)
_refund: msgspec.json.Decoder[Refund] = msgspec.json.Decoder(Refund)
_lookup: msgspec.json.Decoder[Lookup] = msgspec.json.Decoder(Lookup)
WRONG_TOKEN: Final = "wrong_gateway_token"  # noqa: S105
"""Both processes need the same BOXOFFICE_GATEWAY__API_KEY, or the same data directory."""

_name_of_books = msgspec.json.Decoder(str)
_reversals: msgspec.json.Decoder[Reversals | NotFound | Unknown] = msgspec.json.Decoder(Reversals | NotFound | Unknown)
_record = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder().encode


class HttpGateway:
    """A `PaymentGateway` behind an address."""

    name = "http"
    accepts_cards = True
    captures_apart = True
    signs = False

    def __init__(self, settings: GatewaySettings, token: str, webhook_secrets: Sequence[str] = ()) -> None:
        self._settings = settings
        self._webhook_secrets = webhook_secrets
        self._books = "simulator"
        self._trouble = Trouble()
        self._limit = asyncio.Semaphore(settings.concurrency)
        self.client = httpx2.AsyncClient(
            base_url=settings.url,
            headers={"authorization": f"Bearer {token}"},
            timeout=settings.timeout_s,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )

    @property
    def books(self) -> str:
        """Of the simulator behind the address, once it has said so."""
        return self._books

    def sign_as(self, installation: str) -> None:
        """Its ledger is ours alone."""

    def tokenize(self, card_number: str, card_name: str) -> Token:
        """The token for a test card."""
        return cards.tokenize(card_number)

    def check_token(self, token: str) -> Token:
        """The token, when a test card behaves so."""
        return cards.check_token(token)

    async def authorize(self, request: AuthorizeRequest) -> Authorization:
        """Set money aside."""
        return await self.ask("POST", "/v1/payments", _authorization, _encode(request))

    async def authorize_batch(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """Set money aside for many, each in a task."""
        return [*in_parallel(self.authorize, requests, self._limit)]

    async def capture(self, payment_key: str, reference: str, amount_cents: int, currency: str = "") -> Capture:
        """Take money that was set aside."""
        path, body = f"/v1/payments/{payment_key}/capture", _encode({"amount_cents": amount_cents})

        async def done() -> Capture | None:
            found = await self.ask("GET", f"/v1/payments/{payment_key}", _lookup)
            if isinstance(found, Found):
                return Done(found.reference) if found.captured_cents == amount_cents else None
            return Unknown("not read")

        return await self._behind_replays(path, _capture, body, f"{payment_key}:cap", done)

    async def capture_batch(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        """Take money for many."""

        async def one(request: CaptureRequest) -> Capture:
            return await self.capture(request.payment_key, request.reference, request.amount_cents)

        return await asyncio.gather(*in_parallel(one, requests, self._limit))

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """Let money go that was set aside."""
        return await self.ask("POST", f"/v1/payments/{payment_key}/void", _void)

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """Give captured money back."""
        path = f"/v1/payments/{payment_key}/refunds"
        body = _encode({"refund_key": refund_key, "amount_cents": amount_cents})

        async def done() -> Refund | None:
            seen = await self.reversals(payment_key, reference)
            if not isinstance(seen, Reversals):
                return Unknown("not read")
            for each in seen.refunds:
                if each.status != "failed" and first_key(each.refund_key or "") == first_key(refund_key):
                    return Pending(each.reference, each.code) if each.status == "pending" else Done(each.reference)
            return None

        return await self._behind_replays(path, _refund, body, refund_key, done)

    async def reversals(self, payment_key: str, reference: str) -> Reversals | NotFound | Unknown:
        """What went back of a payment."""
        return await self.ask("GET", f"/v1/payments/{payment_key}/reversals", _reversals)

    async def payment_key_of(self, reference: str) -> str | Unknown | None:
        """Never asked: every event of the simulator names its payment key."""
        return None

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """What became of a payment."""
        return await self.ask("GET", f"/v1/payments/{payment_key}", _lookup)

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
        """The event in a webhook that the other process signed."""
        return signing.verify(self._webhook_secrets, self._settings.webhook_age_s, headers, body, now_s)

    async def records(self) -> AsyncIterator[Record]:
        """Every payment, oldest first."""
        async with self.client.stream("GET", "/v1/records", timeout=None) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                yield _record.decode(line)

    async def trouble(self) -> str:
        """Whether our token is the one. Learns whose books it keeps."""
        books = await self.ask("GET", "/v1/books", _name_of_books)
        if isinstance(books, str):
            self._books = books
            self._trouble.clear()
        return self._trouble.code

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.aclose()

    async def _behind_replays(
        self,
        path: str,
        answer: msgspec.json.Decoder[_T],
        body: bytes,
        key: str,
        done: Callable[[], Awaitable[_T | None]],
    ) -> _T | Unknown:
        """The call's outcome. An error that is only repeated is not believed: the payment is read, and when nothing has
        happened to it, the call is made under another key."""
        outcome: _T | Unknown = Unknown("replayed")
        for number in range(KEYS_MAX):
            outcome = await self.ask("POST", path, answer, body, f"{key}:{number}")
            if not (isinstance(outcome, Unknown) and outcome.reason == _REPLAYED):
                return outcome
            if (seen := await done()) is not None:
                return seen
        return outcome

    async def ask(
        self, method: str, path: str, answer: msgspec.json.Decoder[_T], body: bytes = b"", key: str = ""
    ) -> _T | Unknown:
        """What the gateway answers, read by `answer`; or `Unknown` when nobody can tell."""
        exchange = self._exchange(method, path, answer, body, key)
        return await within(self._settings.timeout_s, exchange)

    async def _exchange(
        self, method: str, path: str, answer: msgspec.json.Decoder[_T], body: bytes, key: str
    ) -> _T | Unknown:
        try:
            headers = {"idempotency-key": key} if key else None
            response = await self.client.request(method, path, content=body, headers=headers)
            if response.status_code not in (200, 404):
                if response.status_code == 401:
                    self._trouble.note(WRONG_TOKEN, of_all=True)
                    return Unknown("status 401", WRONG_TOKEN)
                return Unknown(
                    _REPLAYED if "idempotent-replayed" in response.headers else f"status {response.status_code}"
                )
            return answer.decode(response.content)
        except httpx2.TimeoutException:
            return Unknown("timeout")
        except (httpx2.HTTPError, msgspec.DecodeError) as error:
            return Unknown(f"unreachable: {type(error).__name__}")
        except RuntimeError:
            return Unknown("closed")
