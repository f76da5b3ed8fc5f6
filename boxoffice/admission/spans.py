"""What is traced of an admission call: the call itself, and in the trace of each sampled member how it went with that one."""

from __future__ import annotations

from collections.abc import Sequence

from boxoffice.admission.counting import AGAIN
from boxoffice.admission.forms import Admitted, Form
from boxoffice.errors import BoxOfficeError
from boxoffice.telemetry.metrics import word_of
from boxoffice.telemetry.traces import TRACES

__all__ = ["trace_call"]


def trace_call(
    shard: int, forms: Sequence[Form], answers: Sequence[Admitted | BoxOfficeError | None], began_s: float, now_s: float
) -> None:
    """A call that was sent at `began_s` has answered these forms so. A call without a sampled member leaves nothing."""
    sampled = [
        (form, form.trace, answer)
        for form, answer in zip(forms, answers, strict=True)
        if form.trace is not None and type(answer) not in AGAIN
    ]
    if not sampled:
        return
    call = TRACES.begin()
    for form, trace, answer in sampled:
        attributes: dict[str, str | int] = {"boxoffice.outcome": _outcome(answer)}
        if isinstance(answer, Admitted):
            attributes["boxoffice.booking_id"] = answer.booking_id
        place = TRACES.begin(trace.place)
        TRACES.record("admission", place, trace.place, now_s - form.since, attributes, [call])
    TRACES.record(
        "admission call", call, None, now_s - began_s,
        {"boxoffice.shard": shard, "boxoffice.members": len(forms), "boxoffice.members_sampled": len(sampled)},
        [trace.place for _, trace, _ in sampled], kind="client",
    )  # fmt: skip


def _outcome(answer: Admitted | BoxOfficeError | None) -> str:
    if isinstance(answer, Admitted):
        return "replayed" if answer.replayed else "accepted"
    kind: type = type(answer)
    return word_of(kind)
