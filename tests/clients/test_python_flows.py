"""What a call goes through, step by step: the same request with the same key, until it is answered or the deadline has come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from boxoffice_client import Retries, StillPending, Unanswered, UnexpectedAnswer, calls, flows, problems
from boxoffice_client.errors import ProblemError
from boxoffice_client.flows import Flow, Received, Send, Sleep
from boxoffice_client.retrying import Lost

EVEN = Retries(deadline_s=60, chance=lambda: 0.0)
"""Of chance nothing is left."""

BODY: Any = {"customer_id": "ada", "items": [{"tier_id": "t", "quantity": 1}]}


class Clock:
    """Goes on when somebody sleeps, and when an answer takes its time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    time = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(flows, "time", clock)
    return clock


Answering = Callable[[Send], Received | Lost]


def run(flow: Flow[Any], clock: Clock, answering: Answering) -> tuple[Any, list[Send | Sleep]]:
    """What the flow comes to, or the error, and its steps."""
    steps: list[Send | Sleep] = []
    outcome = None
    try:
        while True:
            step = flow.send(outcome)
            steps.append(step)
            if isinstance(step, Sleep):
                clock.now_s += step.seconds
                outcome = None
            else:
                outcome = answering(step)
    except StopIteration as end:
        return end.value, steps
    except Exception as error:
        return error, steps


def answered(status: int, body: Any, **headers: str) -> Received:
    kind = "application/json" if status < 400 else "application/problem+json"
    return Received(status, {"content-type": kind} | {name.replace("_", "-"): text for name, text in headers.items()},
                    json.dumps(body))  # fmt: skip


def problem(status: int, slug: str, **headers: str) -> Received:
    return answered(status, {"type": f"/problems/{slug}", "title": "", "status": status, "detail": slug}, **headers)


def one_after_another(*answers: Received | Lost) -> Answering:
    left = iter(answers)
    return lambda _: next(left)


def test_every_attempt_is_the_same_request_with_the_same_key(clock: Clock) -> None:
    flow = flows.exchange(calls.book(BODY), "key.secret", EVEN)
    answers = one_after_another(
        Lost(sent=True), Lost(sent=False), problem(503, "store-away", retry_after="3"), problem(429, "rate-limited"),
        answered(202, {"id": "b"}, idempotency_replayed="true", x_request_id="r"),
    )  # fmt: skip
    answer, steps = run(flow, clock, answers)
    assert answer.data == {"id": "b"} and answer.status == 202
    assert answer.replayed and answer.request_id == "r"
    sent = [step for step in steps if isinstance(step, Send)]
    assert len(sent) == 5
    assert [each.headers for each in sent] == [sent[0].headers] * 5
    assert [each.content for each in sent] == [sent[0].content] * 5
    assert sent[0].headers["idempotency-key"] == answer.key
    assert [step.seconds for step in steps if isinstance(step, Sleep)] == [0.5, 1, 3, 4]


def test_at_the_deadline_it_raises_what_came_last(clock: Clock) -> None:
    error, steps = run(flows.exchange(calls.book(BODY, key="order-1"), "k", EVEN), clock, lambda _: Lost(sent=True))
    assert isinstance(error, Unanswered)
    assert (error.key, bool(error.request_id)) == ("order-1", True)
    assert 30 < sum(step.seconds for step in steps if isinstance(step, Sleep)) < 60
    clock.now_s = 0.0
    error, steps = run(
        flows.exchange(calls.book(BODY), "k", EVEN), clock, lambda _: problem(503, "busy", retry_after="61")
    )
    assert isinstance(error, problems.Busy) and error.retry_after_s == 61
    assert len(steps) == 1, "there is no use in waiting for longer than there is time"


def test_an_attempt_has_its_time_and_what_the_server_may_wait(clock: Clock) -> None:
    _, steps = run(flows.exchange(calls.read_booking("b", wait_s=5), "k", EVEN), clock, lambda _: answered(200, {}))
    (sent,) = steps
    assert isinstance(sent, Send)
    assert (sent.timeout_s, sent.headers["prefer"]) == (15, "wait=5")


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429])
def test_a_refusal_is_raised_at_once(status: int, clock: Clock) -> None:
    error, steps = run(flows.exchange(calls.book(BODY), "k", EVEN), clock, lambda _: problem(status, "something-new"))
    assert type(error) is ProblemError and (error.slug, error.status) == ("something-new", status)
    assert len(steps) == 1


def test_what_is_made_under_no_key_is_not_made_twice(clock: Clock) -> None:
    made: Any = {"name": "First night"}
    error, steps = run(flows.exchange(calls.create_event(made), "k", EVEN), clock, lambda _: Lost(sent=True))
    assert isinstance(error, Unanswered) and len(steps) == 1
    answers = one_after_another(
        Lost(sent=False), problem(503, "overloaded", retry_after="1"), answered(201, {"id": "e"})
    )
    assert run(flows.exchange(calls.create_event(made), "k", EVEN), clock, answers)[0].data == {"id": "e"}


@pytest.mark.parametrize("answer", [Received(200, {}, "<p>"), Received(418, {}, "<p>")])
def test_an_answer_of_somebody_else_is_told_as_one(answer: Received, clock: Clock) -> None:
    error, _ = run(flows.exchange(calls.book(BODY, key="o"), "k", EVEN), clock, lambda _: answer)
    assert isinstance(error, UnexpectedAnswer) and (error.text, error.key) == ("<p>", "o")


def booking(status: str, next_action: str | None = None) -> Received:
    return answered(200, {"id": "b", "status": status, "payment": {"next_action": next_action}}, retry_after="2")


def test_a_server_that_waits_is_asked_again_at_once(clock: Clock) -> None:
    answers = one_after_another(booking("pending"), booking("pending"), booking("confirmed"))

    def after_waiting(_: Send) -> Received | Lost:
        clock.now_s += 10
        return answers(_)

    found, steps = run(flows.until_final("b", "k", EVEN, 60, past_action=False), clock, after_waiting)
    assert found["status"] == "confirmed"
    assert [type(step) for step in steps] == [Send] * 3


def test_a_server_that_does_not_is_asked_at_the_pace_that_it_names(clock: Clock) -> None:
    answers = one_after_another(booking("pending"), booking("pending"), booking("held"))
    found, steps = run(flows.until_final("b", "k", EVEN, 60, past_action=False), clock, answers)
    assert found["status"] == "held", "its payment was declined"
    assert [step.seconds for step in steps if isinstance(step, Sleep)] == [2, 2]


def test_whose_customer_has_to_go_to_the_bank_is_told(clock: Clock) -> None:
    at_the_bank = booking("pending", "https://bank.example")
    found, _ = run(flows.until_final("b", "k", EVEN, 60, past_action=False), clock, lambda _: at_the_bank)
    assert found["payment"]["next_action"]
    answers = one_after_another(at_the_bank, at_the_bank, booking("confirmed"))
    found, _ = run(flows.until_final("b", "k", EVEN, 60, past_action=True), clock, answers)
    assert found["status"] == "confirmed"


def test_what_is_pending_at_the_deadline_has_not_failed(clock: Clock) -> None:
    error, steps = run(flows.until_final("b", "k", EVEN, 7, past_action=False), clock, lambda _: booking("pending"))
    assert isinstance(error, StillPending) and error.booking["status"] == "pending"
    assert sum(step.seconds for step in steps if isinstance(step, Sleep)) == 7
