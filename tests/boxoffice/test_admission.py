"""Admissions that share a call: what happens to one of them is not the others' concern."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boxoffice import admission
from boxoffice.admission import Admitted
from boxoffice.errors import BoxOfficeError, StoreAway
from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, SaleMaker
from tests.support.sale import order


async def admit_three(office: BoxOffice, open_sale: SaleMaker, broken: Any = None) -> list[Admitted | BoxOfficeError]:
    """Three bookings in one call, the second of them answered by `broken`. What the others were told."""
    event = await open_sale(GA=100)
    await office.catalogue.event(event.id)
    told: list[Admitted | BoxOfficeError] = []
    for number, answer in enumerate((told.append, broken or told.append, told.append)):
        office.admission.submit(CLIENT, order(event, customer=f"c{number}", GA=1), f"{number:032x}", answer)
    await office.admission.close()
    return told


async def test_one_that_cannot_be_told_does_not_keep_its_neighbours_waiting(
    office: BoxOffice, open_sale: SaleMaker
) -> None:
    """Its connection is in a state that nobody thought of. The script has taken all three."""

    def broken(_answer: object) -> None:
        raise RuntimeError("planted")

    told = await admit_three(office, open_sale, broken)

    assert [isinstance(answer, Admitted) for answer in told] == [True, True]
    assert await office.redis.zcard("{s00}:pend") == 3


async def test_one_whose_answer_cannot_be_read_does_not_fail_its_neighbours(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that nobody knows, and may ask again with its key."""
    send = admission._Counter._send

    async def garbled(self: Any, forms: Any) -> Any:
        reply = await send(self, forms)
        reply[2][1] = [b"created", b"no number"]
        return reply

    monkeypatch.setattr(admission._Counter, "_send", garbled)
    told = await admit_three(office, open_sale)

    assert [type(answer) for answer in told] == [Admitted, StoreAway, Admitted]


async def test_a_member_that_fails_when_it_is_sent_alone_keeps_nobody_waiting(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared call that errors is sent again one by one: a fault of ours in one of them ends that one only."""
    from redis.exceptions import ResponseError

    send = admission._Counter._send

    async def faulty(self: Any, forms: Any) -> Any:
        if len(forms) > 1:
            raise ResponseError("planted")
        if forms[0].record.body.customer == "c1":
            raise RuntimeError("planted")
        return await send(self, forms)

    monkeypatch.setattr(admission._Counter, "_send", faulty)
    told = await asyncio.wait_for(admit_three(office, open_sale), 5)

    assert [type(answer) for answer in told] == [Admitted, StoreAway, Admitted]
