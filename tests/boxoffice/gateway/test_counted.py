"""A gateway that is counted answers as it did; each answer counts once, when it is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from boxoffice.clock import CLOCK
from boxoffice.gateway.base import (
    Authorization,
    Authorized,
    AuthorizeRequest,
    Declined,
    Done,
    Found,
    NotFound,
    PaymentGateway,
    Pending,
    Reversals,
    Unknown,
)
from boxoffice.gateway.counted import counted
from boxoffice.telemetry.series import GATEWAY_SECONDS, REGISTRY
from tests.support.telling import change

REQUEST = AuthorizeRequest("key", "booking", 1_000, "USD", "card", "tok_ok")
YES = Authorized("ref", 1_000, "USD")


class Till:
    """Answers what the test says, half a second later by its clock."""

    name = "till"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []
        self.now = 100.0

    async def _answer(self, *asked: Any) -> Any:
        self.asked.append(asked)
        self.now += 0.5
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    authorize_batch = capture_batch = void = refund = lookup = reversals = _answer

    @property
    def counted(self) -> PaymentGateway:
        return counted(self, replace(CLOCK, now_s=lambda: self.now))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "asked", "answer", "outcome"),
    [
        ("void", ("key", "ref"), Done("ref"), "done"),
        ("void", ("key", None), Unknown("timeout"), "unknown"),
        ("refund", ("r", "key", "ref", 5), Pending("ref"), "pending"),
        ("lookup", ("key", "ref", 7), NotFound(), "not_found"),
        ("lookup", ("key", None, None), Found("captured", "ref", 1, "USD"), "found"),
        ("reversals", ("key", "ref"), Reversals(), "reversals"),
    ],
)
async def test_one_question_is_one_answer(call: str, asked: tuple[Any, ...], answer: Any, outcome: str) -> None:
    till = Till(answer)
    before = GATEWAY_SECONDS.cell(call).total
    with change() as changes:
        assert await getattr(till.counted, call)(*asked) is answer
    assert changes == {f"gateway_answers {call} {outcome}": 1, f"gateway_seconds {call}": 1}
    assert GATEWAY_SECONDS.cell(call).total - before == 0.5
    assert till.asked == [asked]


async def test_a_batch_is_one_call_and_many_answers() -> None:
    answers = [Done("a"), Unknown("timeout"), Done("b")]
    till = Till(answers)
    with change() as changes:
        assert await till.counted.capture_batch([1, 2, 3]) is answers  # type: ignore[list-item]
    assert changes == {
        "gateway_answers capture done": 2, "gateway_answers capture unknown": 1, "gateway_seconds capture": 1,
    }  # fmt: skip


async def test_a_slow_answer_counts_when_it_comes_with_all_the_time_it_took() -> None:
    loop = asyncio.get_running_loop()
    slow: list[asyncio.Future[Authorization]] = [loop.create_future() for _ in range(3)]
    till = Till([YES, slow[0], Declined("lost_card"), slow[1], slow[2]])
    before = GATEWAY_SECONDS.cell("authorize").total
    with change() as changes:
        answers = await till.counted.authorize_batch([REQUEST] * 5)
    assert [answers[1], answers[3]] == slow[:2]
    assert changes == {
        "gateway_answers authorize authorized": 1, "gateway_answers authorize declined": 1, "gateway_seconds authorize": 1,
    }  # fmt: skip
    till.now += 3
    with change() as changes:
        slow[0].set_result(YES)
        slow[1].set_exception(LookupError("broken"))
        slow[2].cancel()
        await asyncio.sleep(0)
    assert changes == {
        "gateway_answers authorize authorized": 1, "gateway_answers authorize error": 1, "gateway_seconds authorize": 2,
    }  # fmt: skip
    assert GATEWAY_SECONDS.cell("authorize").total - before == 0.5 + 2 * 3.5


async def test_a_question_about_nothing_is_none() -> None:
    till = Till([], [])
    with change() as changes:
        assert await till.counted.authorize_batch([]) == []
        assert await till.counted.capture_batch([]) == []
    assert changes == {}


@pytest.mark.parametrize(("call", "asked", "answers"), [("void", ("k", "r"), 1), ("capture_batch", ([1, 2, 3],), 3)])
async def test_what_it_raises_counts_for_all_that_was_asked(call: str, asked: tuple[Any, ...], answers: int) -> None:
    with change() as changes, pytest.raises(LookupError):
        await getattr(Till(LookupError()).counted, call)(*asked)
    assert changes == {f"gateway_answers {call.removesuffix('_batch')} error": answers}


async def test_nothing_counts_when_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "counts", False)
    later: asyncio.Future[Authorization] = asyncio.get_running_loop().create_future()
    till = Till([YES, later], [Done("a")], Done("b"), LookupError())
    with change() as changes:
        await till.counted.authorize_batch([REQUEST] * 2)
        later.set_result(YES)
        await till.counted.capture_batch([1])  # type: ignore[list-item]
        await till.counted.void("key", None)
        with pytest.raises(LookupError):
            await till.counted.void("key", None)
    assert changes == {}


def test_all_else_is_the_gateways_own() -> None:
    assert Till().counted.name == "till"
