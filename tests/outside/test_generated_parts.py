"""What of the clients is generated is what the API's description says now: `make clients`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outside import generated, tools


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", generated.PARTS, ids=lambda path: path.name)
def test_a_generated_part_is_current(path: Path) -> None:
    part: Callable[[], str] = generated.PARTS[path]
    try:
        assert path.read_text() == part(), "run `make clients`"
    except tools.Missing as reason:
        pytest.skip(str(reason))
