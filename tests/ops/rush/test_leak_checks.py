"""Card numbers and secrets, searched for in whatever a sale leaves behind."""

from __future__ import annotations

from pathlib import Path

from ops.rush.findings import Findings
from ops.rush.leak_checks import check_leaks
from tests.ops.rush.conftest import DECLINED, GOOD


def test_secrets_are_found_wherever_they_stand_and_numbers_by_themselves(tmp_path: Path) -> None:
    """Half of them begin alike; a number within a longer one is another number."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "api.log").write_text(f'x{GOOD}x {DECLINED}, 1{GOOD} {GOOD}1 rush-1-rush-2-key "rush-"')
    findings = Findings()

    check_leaks(tmp_path, ["rush-1-", "rush-2-"], None, findings)

    assert findings["I8"].broken == 4
