"""The table of docs/api.md, as the client in Python has it. The client in TypeScript reads the same cases."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from boxoffice_client.retrying import NOTHING_DONE, Answered, Lost, Retries, pause_before_repeat, retry_after_of

from api.problem_schemas import BY_SLUG

ROOT = Path(__file__).resolve().parents[2]

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("retry_cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["says"])
def test_it_is_sent_again_when_the_table_says_so(case: dict[str, Any]) -> None:
    now_s = datetime.fromisoformat(case.get("now", "2026-01-01T00:00:00Z")).timestamp()
    outcome: Answered | Lost
    if case.get("lost"):
        outcome = Lost(sent=True)
    else:
        headers = {} if case["retry_after"] is None else {"retry-after": case["retry_after"]}
        outcome = Answered(case["status"], case["slug"], retry_after_of(headers, now_s))
    pauses = [
        pause_before_repeat(outcome, case["repeatable"], case["attempt"], replace(Retries(), chance=lambda at=at: at))
        for at in (0.0, 1.0)
    ]
    assert pauses == (case["pause"] or [None, None])


def test_what_was_never_sent_is_sent_again_whatever_it_is() -> None:
    assert pause_before_repeat(Lost(sent=False), False, 1, Retries()) is not None


def test_only_problems_that_there_are_stand_in_the_table() -> None:
    assert BY_SLUG.keys() >= NOTHING_DONE
    assert {case["slug"] for case in CASES if "slug" in case} - BY_SLUG.keys() == {"", "something-new"}


def test_every_row_of_the_page_has_its_cases() -> None:
    """What the page says is to be sent again is, and what it leaves to the shop is not."""
    section = (ROOT / "docs/api.md").read_text().partition("## When to send again")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.M)[2:]
    named = {slug: do for what, do in rows for slug in re.findall(r"`([a-z-]+)`", what) if slug in BY_SLUG}
    assert named.keys() >= {"payment-in-progress", "rate-limited", "unpaid-limit", "declined-too-often", "sold-out"}
    tried = {case["slug"]: case["pause"] for case in CASES if "slug" in case}
    for slug, do in named.items():
        by_itself = do.startswith(
            ("send the same request", "ask again after `Retry-After` |", "ask again after `Retry-After`")
        )
        left_to_the_shop = slug in ("unpaid-limit", "declined-too-often", "sold-out")
        assert (tried[slug] is not None) is (by_itself and not left_to_the_shop), slug
    statuses = {int(each) for what, do in rows for each in re.findall(r"\b(\d{3})\b", what) if "do not repeat" in do}
    assert statuses >= {400, 401, 403, 404, 422}
    assert [case for case in CASES if case.get("status") in statuses - {409} and case["pause"]] == []
