"""What no statement of ours may do, whatever PostgreSQL plans for it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_claim_with_a_limit_is_run_once() -> None:
    """A subquery that is joined may be run once for each row of the other side, and then locks other rows each time: more
    than its limit. A materialized list, or an array, is run once."""
    claims = 0
    for folder in ("api", "boxoffice", "ops", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text()
            for locked in re.finditer(r"SKIP LOCKED", source):
                before = source[: locked.start()]
                opened = max(before.rfind("MATERIALIZED (\n"), before.rfind("ARRAY(\n"), before.rfind("ARRAY(SELECT"))
                assert opened > before.rfind('"""'), f"{path.relative_to(ROOT)}: a claim that may be run more than once"
                claims += 1
    assert claims >= 6, "the search finds them"
