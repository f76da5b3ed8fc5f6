"""Whose turn it is, when reading pauses and goes on, and what the application is told, on a transport that only tells."""

from __future__ import annotations

import asyncio
import json
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.transport import cycle as module
from api.transport.connection import Connection
from api.transport.reply import SECURITY
from api.transport.slowing import PIECES_FREE
from api.transport.turns import is_probe
from boxoffice.admission.flood import FLOOD
from boxoffice.telemetry import request_id
from tests.api.transport.test_connection import HALF_A_BODY, HALF_A_HEAD, Loop, Transport, connect, one, state

__all__ = ["one", "state"]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class ToldTurns:
    """Turns as a test wants them; keeps what was asked of them."""

    def __init__(self) -> None:
        self.over = self.overdue = self.probed = False
        self.due = 0.0
        self.calls: list[Any] = []
        self.sent_away: list[Any] = []
        self.counted: list[bool] = []

    def is_over(self, _loop: Any) -> bool:
        return self.over

    def send_away(self, request: Any) -> Any:
        self.sent_away.append(request)
        return request

    def end(self) -> None:
        """This turn: whoever was sent away is told so."""
        sent_away, self.sent_away = self.sent_away, []
        for each in sent_away:
            each.answer()

    def count(self, *, sent_away: bool) -> None:
        self.counted.append(sent_away)

    def wait(self, one: Any) -> None:
        self.calls.append(("wait", one))

    def pace(self, now: float) -> float:
        self.calls.append("pace")
        return max(now, self.due)

    def may_be_probed(self, now: float) -> bool:
        self.calls.append("probe")
        return self.probed

    def lets_past(self, _method: bytes, target: bytes, now: float) -> bool:
        return is_probe(target) and self.may_be_probed(now)

    def unpace(self) -> None:
        self.calls.append("unpace")

    def piece(self, now: float) -> float:
        self.calls.append("piece")
        return now + 9

    def throw_away(self, now: float, count: int) -> float:
        self.calls.append(count)
        return now + 7

    def spend(self, _s: float) -> None: ...

    def are_overdue(self, *told: Any) -> bool:
        self.calls.append(told)
        return self.overdue


@pytest.fixture
def turned(one: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A connection whose turns are told, and which tells when its reading is paused and resumed."""
    one.turns, one.reads = ToldTurns(), []
    monkeypatch.setattr(one.transport, "pause_reading", lambda: one.reads.append("pause"))
    monkeypatch.setattr(one.transport, "resume_reading", lambda: one.reads.append("resume"))
    return one


def answered(one: Any) -> None:
    one.cycle.response_complete = True
    one.on_response_complete()


def test_requests_that_come_together_are_paced(turned: Any) -> None:
    """The second waits until it is due; what comes meanwhile is not read, and a request that came alone waits for nobody."""
    turned.data_received(GET)
    answered(turned)
    assert turned.turns.calls == []
    turned.turns.due = turned.loop.now + 5
    turned.data_received(GET + GET)
    first = turned.cycle
    assert (turned.turns.calls, turned.paced, turned.reads) == (["pace"], True, ["pause"])
    answered(turned)
    assert turned.cycle is first, "not before it is due"
    ((due, go_on),) = turned.loop.later
    assert due == turned.loop.now + 5
    go_on()
    assert turned.cycle is not first
    assert (turned.paced, turned.turns.calls) == (False, ["pace"]), "nothing came with the last"
    answered(turned)
    assert turned.reads == ["pause", "resume"]


def test_who_is_read_later_is_read_in_nobodys_name(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever request was worked for when it was put off: because it is paced, or slowed."""
    seen: list[bytes] = []
    monkeypatch.setattr(turned, "take", lambda _: seen.append(request_id.current.get()))
    monkeypatch.setattr(turned.flow, "read_on", lambda: seen.append(request_id.current.get()))
    turned.turns.due = turned.loop.now + 5
    named = copy_context()
    named.run(request_id.current.set, b"another's")
    named.run(turned.data_received, GET + GET)
    named.run(turned.throw_away, 1)
    for _, work in turned.loop.later:
        named.run(work)
    assert (len(turned.loop.later), seen) == (2, [b"another's", b"", b""])


def test_requests_that_are_not_too_fast_wait_for_nobody(turned: Any) -> None:
    turned.turns.due = turned.loop.now
    turned.data_received(GET + GET)
    assert (turned.paced, turned.loop.later) == (False, [])
    first = turned.cycle
    answered(turned)
    assert turned.busy and turned.cycle is not first


def test_who_hangs_up_while_it_is_paced_is_called_no_more(turned: Any) -> None:
    cancelled: list[bool] = []
    turned.turns.due = turned.loop.now + 5
    turned.loop.call_at = lambda *_, **__: SimpleNamespace(cancel=lambda: cancelled.append(True))
    turned.data_received(GET + GET)
    turned.connection_lost(None)
    assert (cancelled, turned.turns.calls, turned.paced, turned.due) == ([True], ["pace", "unpace"], False, None)
    turned.connection_lost(None)
    assert turned.turns.calls == ["pace", "unpace"]


def test_who_comes_when_the_turn_is_over_waits_for_the_next(turned: Any) -> None:
    """Once, and is read no further meanwhile; who hangs up has no turn."""
    turned.turns.over = True
    turned.data_received(GET)
    turned.data_received(GET)
    assert (turned.turns.calls, turned.queued, turned.reads, turned.cycle) == (
        [("wait", turned)],
        True,
        ["pause"],
        None,
    )
    turned.loop.now += 3
    turned.has_turn()
    assert turned.busy and not turned.queued
    assert turned.turns.calls[1] == (3, turned.patience), "whether it is late is asked with the settings"
    other = connect(turned.server_state)
    other.turns = ToldTurns()
    other.turns.over = True
    other.data_received(GET)
    other.connection_lost(None)
    assert not other.queued
    other.has_turn()
    assert other.cycle is None
    third = connect(turned.server_state)
    third.reader.feed(GET)
    third.has_turn()
    assert third.cycle is None, "it had asked for none"


def test_who_comes_in_a_flood_when_the_turn_is_over_is_sent_away_at_once(turned: Any) -> None:
    """It is told so when the turn ends, and not before: asking again at once, it would be read in this turn again. It waits for
    no other, and is read on: whoever comes when there is time is served. Each is counted."""
    FLOOD.begin(0.5)
    turned.turns.over = True
    for n in range(3):
        turned.data_received(GET)
        assert turned.transport.written.count(b"/problems/overloaded") == n
        turned.turns.end()
    turned.data_received(HALF_A_HEAD)
    turned.turns.end()
    assert turned.transport.written.count(b"/problems/overloaded") == 3
    assert (turned.queued, turned.reads, turned.turns.calls, turned.busy) == (False, [], [], False)
    turned.turns.over = False
    turned.data_received(b"\r\n")
    assert turned.busy and turned.turns.counted == [True, True, True, False]


@pytest.mark.parametrize(("target", "probed", "becomes"), [
    (b"/healthz", False, "queued"), (b"/healthz", True, "let in"), (b"/readyz", False, "queued"),
    (b"/metrics", True, "let in"), (b"/metrics", False, "sent away"), (b"/readyz?x", False, "sent away"),
])  # fmt: skip
def test_probes_are_before_others_in_a_flood_while_they_are_few(
    turned: Any, target: bytes, probed: bool, becomes: str
) -> None:
    """More than that wait for a turn; those that are written in another way than load balancers do are sent away."""
    FLOOD.begin(0.5)
    turned.turns.over, turned.turns.probed = True, probed
    turned.data_received(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (turned.queued, bool(turned.turns.sent_away)) == (becomes == "queued", becomes == "sent away")
    turned.turns.overdue = True
    turned.has_turn()
    assert turned.busy and bool(turned.turns.sent_away) is (becomes == "sent away")


@pytest.mark.parametrize("end", ["lost", "closing", "draining"])
def test_whoever_hangs_up_before_it_is_told_is_told_nothing(turned: Any, end: str) -> None:
    """Nor is one that was cut meanwhile; one that is to end is told that this was the last answer."""
    FLOOD.begin(0.5)
    turned.turns.over = True
    turned.data_received(GET)
    assert turned.busy
    if end == "lost":
        turned.connection_lost(None)
    elif end == "closing":
        turned.transport.ends.append("abort")
    else:
        turned.drain()
    turned.turns.end()
    assert (b"connection: close" in turned.transport.written) is (end == "draining")
    assert bool(turned.transport.written) is (end == "draining")


def test_what_comes_behind_a_request_that_is_sent_away_waits_for_its_answer(turned: Any) -> None:
    """No answer overtakes another, though there is time for the second."""
    FLOOD.begin(0.5)
    turned.turns.over = True
    turned.data_received(GET)
    turned.turns.over = False
    turned.data_received(GET)
    assert turned.turns.counted == [True] and turned.reads == ["pause"]
    turned.turns.end()
    assert turned.transport.written.count(b"/problems/overloaded") == 1
    assert turned.busy and turned.turns.counted == [True, False]


@pytest.mark.parametrize("target", [
    b"/", b"/v1/events", b"/healthz", b"/readyz", b"/metrics", b"/readyz?x=1", b"/readyzFOO", b"/healthz/x", b"/x?/metrics",
])  # fmt: skip
@pytest.mark.parametrize("stays", [True, False])
def test_who_waited_too_long_is_sent_away(turned: Any, target: bytes, stays: bool) -> None:
    """With nothing done; whoever looks after us is answered. The next that comes in time is served, where the connection
    stays."""
    turned.turns.over = turned.turns.overdue = True
    head = b"" if stays else b"Connection: close\r\n"
    turned.data_received(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    FLOOD.begin(0.5)
    turned.turns.probed = True
    turned.has_turn()
    turned.turns.end()
    if target in (b"/healthz", b"/readyz", b"/metrics", b"/readyz?x=1"):
        assert turned.busy and turned.transport.written == b""
        return
    assert not turned.busy
    written = turned.transport.written
    assert written.startswith(b"HTTP/1.1 503 ") and b"/problems/overloaded" in written
    assert any(b"retry-after: %d\r\n" % again_s in written for again_s in (1, 2, 3))
    assert (b"connection: close" in written) is not stays
    turned.turns.over = False
    turned.data_received(GET)
    assert turned.busy is stays


@pytest.mark.parametrize("named", [b"", b"X-Request-Id: mine\r\n"])
@pytest.mark.parametrize("why", ["overloaded", "malformed-request"])
def test_an_answer_of_the_connection_has_the_name_of_its_line(turned: Any, why: str, named: bytes) -> None:
    """Also when it is made here, as the client named none."""
    turned.turns.over = turned.turns.overdue = why == "overloaded"
    length = b"" if why == "overloaded" else b"Content-Length: %d\r\n" % (turned.limits.body_max_bytes + 616)
    with capture_logs() as said:
        turned.data_received(b"POST / HTTP/1.1\r\nHost: x\r\n" + named + length + b"\r\n")
        turned.has_turn()
        turned.turns.end()
    head, _, body = turned.transport.written.partition(b"\r\n\r\n")
    (line,) = said
    name = line["request_id"]
    assert line["type"] == why and (not named or name == "mine")
    assert b"\r\nx-request-id: %b\r\n" % name.encode() in head + b"\r\n"
    assert json.loads(body)["request_id"] == name


def test_who_says_nothing_and_ends_is_told_nothing(turned: Any) -> None:
    assert turned.eof_received() is False
    assert (turned.transport.written, turned.transport.ends) == (b"", ["close"])


@pytest.mark.parametrize("target", [
    b"GET /healthz", b"GET /readyz", b"HEAD /healthz", b"HEAD /readyz", b"GET /healthz?x=1", b"GET /readyzz", b"GET /v1/events",
    b"POST /readyz",
])  # fmt: skip
@pytest.mark.parametrize("probed", [True, False])
def test_a_probe_waits_for_no_turn(turned: Any, target: bytes, probed: bool) -> None:
    """As long as there are few. As load balancers write it; anything else waits as others do."""
    turned.turns.over, turned.turns.probed = True, probed
    turned.data_received(target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    known = target in (b"GET /healthz", b"GET /readyz", b"HEAD /healthz", b"HEAD /readyz")
    assert ("probe" in turned.turns.calls) is known
    assert (turned.busy, turned.queued) == (known and probed, not (known and probed))


def test_four_requests_of_one_connection_are_read_in_a_turn(turned: Any) -> None:
    """Of those that are answered at once; the rest has the next turn."""
    taken: list[Any] = []

    def take(request: Any) -> None:
        """Answered before the next line is run."""
        taken.append(request)
        turned.on_response_complete()

    turned.take = take
    turned.data_received(GET * 6)
    assert (len(taken), turned.queued, turned.turns.calls[-1]) == (4, True, ("wait", turned))
    assert turned.flow.read_paused
    turned.has_turn()
    assert (len(taken), turned.queued) == (6, False)
    turned.data_received(GET * 4)
    assert (len(taken), turned.queued, turned.flow.read_paused) == (10, True, True), (
        "whether there are more is seen in the next"
    )


@pytest.mark.parametrize("why", ["busy", "unread", "idle", "closing", "thrown away"])
def test_who_is_busy_is_read_no_further(turned: Any, why: str) -> None:
    """While an answer is worked on or not read, and a part of the next request is here."""
    if why == "unread":
        turned.pause_writing()
    elif why == "closing":
        turned.flow.pause_reading()
        turned.transport.ends.append("close")
    elif why == "thrown away":
        turned.flow.pause_reading()
        turned.slowed = True
    turned.reads.clear()
    turned.data_received((GET if why == "busy" else b"") + HALF_A_HEAD)
    wanted = {"busy": ["pause"], "unread": [], "idle": [], "closing": [], "thrown away": []}[why]
    assert (turned.reads, turned.flow.read_paused) == (wanted, why != "idle")
    if why == "unread":
        turned.resume_writing()
        assert turned.reads == ["resume"]
    if why == "busy":
        turned.flow.resume_reading()
        assert turned.flow.read_paused, "the cycle knows nothing of it"


@pytest.mark.parametrize("why", ["paced", "queued", "closing", "lingering", "unread"])
def test_nothing_is_taken_while_it_may_not_be(turned: Any, why: str) -> None:
    """What is here stays; and reading pauses at more of it, where it goes on by itself."""
    if why == "unread":
        turned.pause_writing()
    elif why == "closing":
        turned.transport.ends.append("close")
    else:
        setattr(turned, why, True)
    turned.reads.clear()
    turned.reader.feed(GET)
    turned.go_on()
    assert turned.cycle is None
    assert turned.reads == {"paced": ["pause"]}.get(why, [])
    turned.reads.clear()
    if why != "queued":
        turned.read()
    assert (turned.cycle, turned.going, turned.reads) == (None, False, [])


def test_a_connection_that_is_closed_and_not_flushed_has_its_time(turned: Any) -> None:
    turned.transport.ends.append("close")
    turned.look(turned.loop.now)
    turned.look(turned.loop.now + turned.patience.flush_s)
    assert turned.transport.ends == ["close"]
    turned.look(turned.loop.now + turned.patience.flush_s + 0.001)
    assert turned.transport.ends == ["close", "abort"]


def test_what_is_refused_says_what_and_where(turned: Any) -> None:
    turned.data_received(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    head, _, body = turned.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["errors"] == [{"header": "Host", "code": "malformed"}]


def test_who_sent_too_much_has_asked_and_sends_a_body(turned: Any) -> None:
    """Its time is a body's, and afterwards that of who has asked before."""
    most = turned.limits.body_max_bytes
    turned.loop.now += 3
    turned.data_received(f"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: {most + 9}\r\n\r\n".encode())
    assert (turned.used, turned.stage, turned.since) == (True, 2, turned.loop.now)
    since, turned.slowed = turned.since, False
    turned.loop.now += 1
    turned.data_received(b"z")
    assert (turned.stage, turned.since) == (2, since)
    turned.data_received(b"z" * (most + 8))
    assert (turned.stage, turned.transport.ends) == (0, [])
    turned.data_received(HALF_A_BODY)
    assert turned.stage == 2
    turned.data_received(b"cde")
    assert (turned.stage, turned.busy) == (0, True)


async def test_a_bug_is_answered_in_our_own_words() -> None:
    """Whole, and as the last answer of its connection."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await module.Cycle.send_500_response(SimpleNamespace(send=send))  # type: ignore[arg-type]
    start, body = sent
    assert (start["type"], start["status"], body["type"]) == ("http.response.start", 500, "http.response.body")
    name = dict(start["headers"])[b"x-request-id"]
    assert start["headers"] == [
        (b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), (b"connection", b"close"),
        (b"content-length", b"%d" % len(body["body"])), (b"x-request-id", name), *SECURITY,
    ]  # fmt: skip
    assert body["more_body"] is False
    assert json.loads(body["body"]) == {
        "type": "/problems/internal-error", "title": "Something went wrong here", "status": 500,
        "detail": "This is our mistake, and it is in our log.", "request_id": name.decode(),
    }  # fmt: skip


async def test_a_connection_lives_in_the_loop_that_made_it(state: Any) -> None:
    config: Any = SimpleNamespace(loaded_app=None)
    assert Connection(config, state, {}).loop is asyncio.get_running_loop()


def test_what_is_thrown_away_is_read_when_it_is_time(turned: Any) -> None:
    """As many bytes as came, once a time; and not while there is another reason to wait."""
    turned.data_received(b"\0\r\n\r\n")
    turned.data_received(b"x" * 50)
    assert (turned.turns.calls, turned.reads) == ([0], ["pause"])
    ((due, read_on),) = turned.loop.later
    assert due == turned.loop.now + 7
    read_on()
    turned.data_received(b"x" * 60)
    assert (turned.turns.calls, turned.reads) == ([0, 60], ["pause", "resume", "pause"])
    for why in ("paced", "queued", "busy", "closing"):
        if why == "busy":
            turned.cycle = SimpleNamespace(response_complete=False)
            read_on()
            turned.cycle = None
            assert turned.reads == ["pause", "resume", "pause"]
            continue
        if why == "closing":
            turned.transport.ends.append("close")
        else:
            setattr(turned, why, True)
        read_on()
        assert turned.reads == ["pause", "resume", "pause"], why
        setattr(turned, why, False)
    turned.slowed = False
    turned.data_received(b"x" * 70)
    assert turned.turns.calls == [0, 60], "whoever is being closed is not read at all"


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12000\r\n\r\n"


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nX: ", HEAD])
def test_who_sends_a_request_in_drops_is_read_when_there_are_many(turned: Any, begun: bytes) -> None:
    """From the ninth on, whether a head or a body is on its way; each that is large brings it on, and waits for nobody."""
    for piece in (begun, *[b"y" * 511] * (PIECES_FREE - 1), *[b"y" * 512] * 3):
        turned.data_received(piece)
    assert (turned.turns.calls, turned.reads, turned.slowed) == ([], [], False)
    turned.data_received(b"y" * 511)
    assert (turned.turns.calls, turned.reads, turned.slowed) == (["piece"], ["pause"], True)
    ((due, read_on),) = turned.loop.later
    assert due == turned.loop.now + 9
    turned.data_received(b"y")
    assert turned.turns.calls == ["piece"], "it is slowed already"
    read_on()
    assert (turned.reads, turned.slowed) == (["pause", "resume"], False)
    turned.data_received(b"y")
    assert turned.turns.calls == ["piece", "piece"]


def test_each_request_has_pieces_of_its_own(turned: Any) -> None:
    """Clients of this world send their head and their body apart, again and again."""
    for _ in range(PIECES_FREE):
        for piece in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"):
            turned.data_received(piece)
        answered(turned)
    assert (turned.turns.calls, turned.pieces) == ([], 0)


def test_who_is_sent_away_is_no_more_slowed(turned: Any) -> None:
    """Nor is whoever has hung up, or waits for an answer."""
    for byte in b"GET /aaa":
        turned.data_received(bytes([byte]))
    assert turned.pieces == PIECES_FREE
    turned.data_received(b"\0")
    assert "piece" not in turned.turns.calls and turned.lingering
    other = connect(turned.server_state)
    other.turns = ToldTurns()
    other.data_received(GET)
    for _ in range(PIECES_FREE + 2):
        other.data_received(b"G")
    assert other.turns.calls == []


def test_a_body_that_is_let_by_is_counted(turned: Any) -> None:
    most = turned.limits.body_max_bytes
    head = f"POST /v1/bookings HTTP/1.1\r\nHost: x\r\nContent-Length: {most + 1_000}\r\n\r\n".encode()
    turned.data_received(head)
    turned.slowed = False
    turned.data_received(b"y" * 300)
    assert turned.turns.calls == [len(head), 300]


class Task:
    """Of an application that is never run."""

    def __init__(self, work: Any) -> None:
        work.close()

    def add_done_callback(self, done: Any) -> None:
        self.done = done


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v1/events", "/v1/events", b""), (b"/v1/events?a=b?c", "/v1/events", b"a=b?c"), (b"/a%20b", "/a b", b""),
        (b"/a%2Fb%2fc%25?x=%2F", "/a%2Fb%2fc%", b"x=%2F"), (b"/%c3%a9", "/é", b""), (b"/?", "/", b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("stays", "draining", "kept"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_what_the_application_is_told(
    state: Any, monkeypatch: pytest.MonkeyPatch, target: bytes, path: str, query: bytes, stays: bool, draining: bool,
    kept: bool,
) -> None:  # fmt: skip
    """Method, path and query as they were written and decoded, headers, body, both addresses, and what the server knows."""
    made: list[Any] = []

    class Cycle:
        def __init__(self, **told: Any) -> None:
            self.told, self.body, self.more_body, self.response_complete = told, b"", True, False
            self.message_event = told["message_event"]
            made.append(self)

        def run_asgi(self, app: Any) -> Any:
            self.app = app
            return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(module, "Cycle", Cycle)
    monkeypatch.setattr(module, "get_local_addr", lambda transport: ("here", transport))
    monkeypatch.setattr(module, "get_remote_addr", lambda transport: ("there", transport))
    monkeypatch.setattr(module, "stamp", lambda: b"now")
    loop: Any = Loop()
    loop.create_task = Task
    one: Any = Connection(SimpleNamespace(loaded_app="app"), state, {"a": 1}, loop)  # type: ignore[arg-type]
    one.connection_made(Transport())
    one.draining = draining
    more = b"" if stays else b"Connection: close\r\n"
    one.data_received(b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: 2\r\n\r\nhi" % (target, more))
    (cycle,) = made
    told = cycle.told
    headers = [(b"host", b"x"), *([] if stays else [(b"connection", b"close")]), (b"content-length", b"2")]
    assert told["scope"] == {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "server": ("here", one.transport), "client": ("there", one.transport),
        "scheme": "http", "method": "POST", "root_path": "", "path": path,
        "raw_path": target.partition(b"?")[0], "query_string": query, "headers": headers, "state": {"a": 1},
    }  # fmt: skip
    assert told["scope"]["state"] is not one.app_state, "each request has its own"
    assert (told["transport"], told["flow"], cycle.on_response) == (one.transport, one.flow, one.on_response_complete)
    assert (told["logger"].name, told["access_logger"].name, cycle.app) == ("uvicorn.error", "uvicorn.error", "app")
    assert (told["access_log"], told["expect_100_continue"], cycle.keep_alive) == (False, False, kept)
    assert told["default_headers"] == [(b"date", b"now")]
    assert (cycle.body, cycle.more_body, cycle.message_event.is_set()) == (b"hi", False, True)
    (task,) = state.tasks
    task.done(task)
    assert not state.tasks
