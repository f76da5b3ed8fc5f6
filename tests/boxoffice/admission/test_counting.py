"""What a call adds, in numbers: its members, its time, each outcome, and how long each booking waited."""

from __future__ import annotations

from typing import Any, NamedTuple

from boxoffice.admission.counting import count_call
from boxoffice.admission.forms import Admitted
from boxoffice.errors import PriceChanged, PriceOutdated, SoldOut
from boxoffice.telemetry.series import ADMISSION_SECONDS, CALL_SECONDS
from tests.support.telling import change


class Form(NamedTuple):
    since: float


def admitted(*, replayed: bool = False) -> Admitted:
    event: Any = None
    return Admitted(b"{}", "id", event, [], replayed, "pending")


def test_a_call_of_all_kinds() -> None:
    """A question that is asked on, and a price that was read late, are answered by a later call."""
    alike = SoldOut()
    answers = [
        admitted(), admitted(replayed=True), alike, alike, None, PriceOutdated(), PriceChanged(), admitted(), admitted(),
    ]  # fmt: skip
    forms: Any = [Form(100 + n / 16) for n in range(len(answers))]
    calls_s, waits_s = CALL_SECONDS.cell().total, ADMISSION_SECONDS.cell().total
    with change() as changes:
        count_call(forms, answers, began_s=102.0, now_s=102.5)
    assert changes == {
        "admission_call_members": 1, "admission_call_members.sum": 9, "admission_call_seconds": 1, "admission_seconds": 7,
        "admissions accepted": 3, "admissions replayed": 1, "admissions sold_out": 2, "admissions price_changed": 1,
    }  # fmt: skip
    assert CALL_SECONDS.cell().total - calls_s == 0.5
    waited = [2.5 - n / 16 for n in (0, 1, 2, 3, 6, 7, 8)]
    assert ADMISSION_SECONDS.cell().total - waits_s == sum(waited)
