"""Which requests are answered before any framework sees them."""

from __future__ import annotations

from typing import Any

import pytest

from api import answers
from api.front import Front, send_reply
from api.transport.reply import Reply


class Behind:
    """The application behind: keeps what it is handed."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.body", "body": b"behind"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the answers were asked for."""
    found: list[Any] = []

    def told(name: str) -> Any:
        async def tell(office: Any, *rest: Any, waits: Any = None) -> Reply:
            found.append((name, office, *rest, waits))
            return Reply(200, b"front", [(b"x-of", name.encode())])

        return tell

    for name in ("book", "read_booking", "read_event"):
        monkeypatch.setattr(answers, name, told(name))
    return found


OFFICE: Any = "office"
NOBODY_WAITS: Any = "waiting"


async def ask(front: Front, method: str, path: str, *headers: tuple[bytes, bytes], kind: str = "http") -> list[Any]:
    front.office = OFFICE
    front.waiting = NOBODY_WAITS
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await front({"type": kind, "method": method, "path": path, "headers": list(headers)}, "receive", send)  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/bookings", "book"), ("POST", "/v1/bookings/", None), ("POST", "/v1/bookings/x", None),
        ("PUT", "/v1/bookings", None), ("GET", "/v1/bookings", None), ("GET", "/v1/bookings/", None),
        ("GET", "/v1/bookings/x", "read_booking"), ("GET", "/v1/bookings/x/y", None), ("DELETE", "/v1/bookings/x", None),
        ("GET", "/v1/events", None), ("GET", "/v1/events/", None), ("GET", "/v1/events/x", "read_event"),
        ("GET", "/v1/events/x/", None), ("POST", "/v1/events/x", None), ("GET", "/v1/eventsx", None),
    ],
)  # fmt: skip
async def test_which_are_answered_in_front(asked: list[Any], method: str, path: str, name: str | None) -> None:
    """By the office, of whoever's key it is; all others by the application behind."""
    behind = Behind()
    key = (b"authorization", b"Bearer k")
    sent = await ask(Front(behind), method, path, (b"a", b"b"), key, (b"c", b"d"))
    if name is None:
        assert (asked, len(behind.scopes), sent[-1]["body"]) == ([], 1, b"behind")
        return
    assert (behind.scopes, sent[1]) == ([], {"type": "http.response.body", "body": b"front"})
    assert sent[0] == {
        "type": "http.response.start", "status": 200, "headers": [(b"x-of", name.encode()), (b"content-length", b"5")],
    }  # fmt: skip
    (call,) = asked
    if name == "book":
        assert call[:2] == ("book", OFFICE) and (call[3].waiting, call[3].receive) == (NOBODY_WAITS, "receive")
        assert call[2].authorization == b"Bearer k"
    else:
        assert (*call[:2], call[2].authorization, call[3]) == (name, OFFICE, b"Bearer k", "x")


@pytest.mark.parametrize("path", ["/v1/bookings/x", "/v1/events/x", "/other"])
async def test_a_head_is_a_get_without_its_body(asked: list[Any], path: str) -> None:
    behind = Behind()
    sent = await ask(Front(behind), "HEAD", path)
    assert sent[-1] == {"type": "http.response.body", "body": b""}
    assert [scope["method"] for scope in behind.scopes] == (["GET"] if path == "/other" else [])
    assert len(asked) == (path != "/other")


async def test_what_is_no_request_is_for_the_application(asked: list[Any]) -> None:
    behind = Behind()
    await ask(Front(behind), "GET", "/v1/events/x", kind="lifespan")
    assert (asked, len(behind.scopes)) == ([], 1)


async def test_nobody_is_answered_who_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any) -> Reply:
        raise answers.ClientGone

    monkeypatch.setattr(answers, "book", gone)
    behind = Behind()
    assert await ask(Front(behind), "POST", "/v1/bookings") == []
    assert behind.scopes == []


async def test_an_answer_is_sent_whole() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_reply(send, Reply(409, b"body", [(b"a", b"b")]))
    assert sent == [
        {
            "type": "http.response.start",
            "status": 409,
            "headers": [(b"a", b"b"), (b"content-length", b"4")],
        },
        {"type": "http.response.body", "body": b"body"},
    ]
