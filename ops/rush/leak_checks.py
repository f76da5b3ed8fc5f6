"""The audit's look for what must not be written anywhere: card numbers, API keys, idempotency keys (I8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from boxoffice.gateway.simulator.cards import CARDS
from boxoffice.telemetry.redaction import has_card_number
from ops.rush.findings import Finding, Findings
from ops.rush.history import History
from ops.rush.stock_checks import Pool

__all__ = ["check_leaks", "check_texts"]

FILE_MAX: Final = 1 << 30
"""Larger files are not searched."""

PIECE: Final = 1 << 22

BEGINNING: Final = 8
"""Bytes by which texts are searched: long enough to be rare, and most test cards share theirs."""

_TEXTS: Final = """
SELECT what, id, value FROM (
  SELECT 'bookings.customer_id' AS what, id::text AS id, customer_id AS value FROM bookings
  UNION ALL SELECT 'bookings.reference', id::text, reference FROM bookings WHERE reference IS NOT NULL
  UNION ALL SELECT 'payments.card_name', payment_key, card_name FROM payments WHERE card_name IS NOT NULL
  UNION ALL SELECT 'payments.token', payment_key, token FROM payments WHERE token IS NOT NULL
  UNION ALL SELECT 'payments.next_action', payment_key, next_action FROM payments WHERE next_action IS NOT NULL
  UNION ALL SELECT 'dead_letters.error', booking_id::text, error FROM dead_letters
  UNION ALL SELECT 'dead_letters.record', booking_id::text, encode(record, 'escape') FROM dead_letters
) AS texts WHERE value ~ '[0-9][0-9 .-]{11,}[0-9]' LIMIT 100000
"""


async def check_texts(pool: Pool, findings: Findings) -> None:
    """Texts in PostgreSQL that could hold a card number."""
    finding = findings["I8"]
    for row in await pool.fetch(_TEXTS):
        if has_card_number(row["value"]):
            finding.blame(f"{row['what']} of {row['id']} holds a card number")
    finding.looked_at.append("texts in PostgreSQL")


def check_leaks(data_dir: Path, secrets: list[str], history: History | None, findings: Findings) -> None:
    """Logs, the append-only file and the gateway's ledger, searched for test cards and for `secrets`; and what
    customers complained of."""
    finding = findings["I8"]
    if history is not None:
        for problem in history.problems:
            finding.blame(problem)
        finding.looked_at.append(f"{sum(history.answers.values())} answers")
    wanted = _Wanted([card.number for card in CARDS], secrets)
    searched = 0
    for path in _files(data_dir):
        searched += 1
        _search(path, wanted, finding)
    finding.looked_at.append(f"{searched} files")


def _files(data_dir: Path) -> list[Path]:
    """Everything that our own processes and Redis write."""
    found = [*data_dir.glob("logs/*"), *data_dir.glob("redis/appendonlydir/*"), data_dir / "gateway.ledger"]
    return [path for path in found if path.is_file() and path.stat().st_size <= FILE_MAX]


class _Wanted:
    """Finds numbers that stand by themselves, and other texts wherever they stand.

    A regular expression tries every byte of a file. So the few different beginnings of all these are searched first, and
    the expression is asked only where one of them stands.
    """

    def __init__(self, numbers: list[str], others: list[str]) -> None:
        some = [number.encode() for number in numbers], [other.encode() for other in others if other]
        self._beginnings = {text[:BEGINNING] for texts in some for text in texts}
        alone = rb"(?<!\d)(?:" + b"|".join(some[0]) + rb")(?!\d)"
        self._pattern = re.compile(b"|".join([alone, *map(re.escape, some[1])]))

    def search(self, text: bytes) -> Iterator[re.Match[bytes]]:
        """Every place where one of them stands."""
        for beginning in self._beginnings:
            at = text.find(beginning)
            while at >= 0:
                if match := self._pattern.match(text, at):
                    yield match
                at = text.find(beginning, at + 1)


def _search(path: Path, wanted: _Wanted, finding: Finding) -> None:
    rest, at = b"", 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            text = rest + piece
            for match in wanted.search(text):
                finding.blame(f"{path.name}, byte {at - len(rest) + match.start()}: {_shown(match[0])}")
                if finding.broken > 100:
                    return
            at += len(piece)
            rest = text[-64:]


def _shown(secret: bytes) -> str:
    return f"a number or key that begins with {secret[:4].decode('ascii', 'replace')}"
