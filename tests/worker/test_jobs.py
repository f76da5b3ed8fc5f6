"""What arq calls, how often it may, and what a ring does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from arq import Retry

from boxoffice.settings import Settings
from boxoffice.stores.jobs import RING
from worker import jobs


def test_arq_may_call_one_function_and_keeps_nothing_of_it() -> None:
    """A drain ends long before arq would end it, and every restart of a worker spends a try."""
    (function,) = jobs.functions()
    assert (function.name, function.coroutine) == (RING, jobs.ring)
    assert (function.timeout_s, function.max_tries, function.keep_result_s) == (60, 1_000_000, 0)
    bounds = Settings.model_fields["worker"].annotation.model_fields["drain_s"].metadata  # type: ignore[union-attr]
    assert max(getattr(bound, "le", 0) for bound in bounds) <= 60


@pytest.mark.parametrize("done", [True, False])
async def test_a_ring_drains_its_shard_and_rings_again_when_there_is_more(done: bool) -> None:
    """At once."""
    drained: list[int] = []

    def settlement(shard: int) -> Any:
        async def drain() -> bool:
            drained.append(shard)
            return done

        return SimpleNamespace(drain=drain)

    ctx = {"office": SimpleNamespace(settlements=[settlement(shard) for shard in range(3)])}
    if done:
        await jobs.ring(ctx, 2)
    else:
        with pytest.raises(Retry) as again:
            await jobs.ring(ctx, 2)
        assert again.value.defer_score == 0
    assert drained == [2]
