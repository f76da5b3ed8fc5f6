"""What is counted of an admission call: once for all of its members, in a few additions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import NoneType
from typing import Final

from boxoffice.admission.forms import Admitted, Form
from boxoffice.errors import BoxOfficeError, PriceOutdated
from boxoffice.telemetry.metrics import word_of
from boxoffice.telemetry.series import ADMISSION_SECONDS, ADMISSIONS, CALL_MEMBERS, CALL_SECONDS

__all__ = ["count_call"]

AGAIN: Final = (NoneType, PriceOutdated)
"""No answer to a shop: the booking of a question is sent now, and one with another price is sent once more."""

_accepted, _replayed = ADMISSIONS.cell("accepted"), ADMISSIONS.cell("replayed")
_members, _call_s, _admission_s = CALL_MEMBERS.cell(), CALL_SECONDS.cell(), ADMISSION_SECONDS.cell()


def count_call(
    forms: Sequence[Form], answers: Sequence[Admitted | BoxOfficeError | None], began_s: float, now_s: float
) -> None:
    """A call that was sent at `began_s` has answered these forms so."""
    _members.add(len(forms))
    _call_s.add(now_s - began_s)
    kinds = Counter(map(type, answers))
    if admitted := kinds.pop(Admitted, 0):
        replayed = sum([answer.replayed for answer in answers if type(answer) is Admitted])
        _replayed.add(replayed)
        _accepted.add(admitted - replayed)
    for kind, count in kinds.items():
        if kind not in AGAIN:
            ADMISSIONS.cell(word_of(kind)).add(count)
    if kinds.keys().isdisjoint(AGAIN):
        _admission_s.add_all([now_s - form.since for form in forms])
        return
    _admission_s.add_all(
        [now_s - form.since for form, answer in zip(forms, answers, strict=True) if type(answer) not in AGAIN]
    )
