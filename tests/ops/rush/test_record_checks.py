"""Keys of Redis: which may last."""

from __future__ import annotations

import inspect

from boxoffice.stores import keys
from ops.rush.record_checks import LASTING


def test_every_key_that_says_no_ttl_may_last_and_no_other() -> None:
    """arq's own job keys are looked at by their rings."""
    for name in set(keys.__all__) - {"shard_tag", "arq_job"}:
        function = getattr(keys, name)
        arguments = inspect.signature(function).parameters
        key = function(*(0 if argument == "shard" else "x1" for argument in arguments))
        assert bool(LASTING.fullmatch(key)) is ("No TTL" in " ".join((function.__doc__ or "").split())), name
