"""Sell tickets with boxoffice.

`Client` and `AsyncClient` have a method for each operation of the API. They keep an idempotency key over all attempts of a
call, send again what the API's table of retries says may be sent again, and raise each problem as a class of its own.
"""

from boxoffice_client import bodies, calls, problems
from boxoffice_client.async_client import AsyncClient
from boxoffice_client.client import Client
from boxoffice_client.errors import (
    BoxOfficeClientError,
    ProblemError,
    StillPending,
    Unanswered,
    UnexpectedAnswer,
    WebhookRefused,
)
from boxoffice_client.flows import Answer
from boxoffice_client.retrying import Retries
from boxoffice_client.streams import StreamEvent
from boxoffice_client.webhooks import verify_webhook

__all__ = [
    "Answer",
    "AsyncClient",
    "BoxOfficeClientError",
    "Client",
    "ProblemError",
    "Retries",
    "StillPending",
    "StreamEvent",
    "Unanswered",
    "UnexpectedAnswer",
    "WebhookRefused",
    "bodies",
    "calls",
    "problems",
    "verify_webhook",
]
