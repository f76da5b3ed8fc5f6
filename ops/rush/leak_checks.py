"""The audit's look for what must not be written anywhere: card numbers, API keys, idempotency keys (I8)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from boxoffice.card_data import has_card_number
from boxoffice.gateway.cards import CARDS
from ops.rush.findings import Finding, Findings
from ops.rush.history import History
from ops.rush.stock_checks import Pool

__all__ = ["check_leaks", "check_texts"]

FILE_MAX: Final = 1 << 30
"""Larger files are not searched."""

PIECE: Final = 1 << 22

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
    cards = b"|".join(card.number.encode() for card in CARDS)
    others = b"|".join(re.escape(secret.encode()) for secret in secrets)
    pattern = re.compile(rb"(?<!\d)(?:" + cards + rb")(?!\d)" + (b"|" + others if others else b""))
    searched = 0
    for path in _files(data_dir):
        searched += 1
        _search(path, pattern, finding)
    finding.looked_at.append(f"{searched} files")


def _files(data_dir: Path) -> list[Path]:
    """Everything that our own processes and Redis write."""
    found = [*data_dir.glob("logs/*"), *data_dir.glob("redis/appendonlydir/*"), data_dir / "gateway.ledger"]
    return [path for path in found if path.is_file() and path.stat().st_size <= FILE_MAX]


def _search(path: Path, pattern: re.Pattern[bytes], finding: Finding) -> None:
    rest, at = b"", 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            text: Any = rest + piece
            for match in pattern.finditer(text):
                finding.blame(f"{path.name}, byte {at - len(rest) + match.start()}: {_shown(match[0])}")
                if finding.broken > 100:
                    return
            at += len(piece)
            rest = text[-64:]


def _shown(secret: bytes) -> str:
    return f"a number or key that begins with {secret[:4].decode('ascii', 'replace')}"
