"""Tests stand where a reader looks for them: `boxoffice/money/pump.py` is tried in `tests/boxoffice/money/test_pump.py`, or
in files whose names begin so. What is tried elsewhere is named here, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LEAST = 100
"""Lines from which a module has tests of its own. Smaller ones are parts of what is tried."""

LONGEST = 600
"""Lines of a file of tests: beyond it has two subjects."""

ELSEWHERE = {
    "through HTTP, as a shop meets it": {
        "api/answers.py": "tests/api/test_booking.py",
        "api/app.py": "tests/api/test_front.py",
        "api/endpoint_schemas.py": "tests/api/test_documentation.py",
        "api/event_schemas.py": "tests/api/test_documentation.py",
        "api/refusals.py": "tests/api/test_documentation.py",
        "api/routes/allocations.py": "tests/api/test_allocations.py",
        "api/routes/bookings.py": "tests/api/test_booking.py",
        "api/routes/endpoints.py": "tests/api/test_endpoints.py",
        "api/routes/events.py": "tests/api/test_events.py",
        "api/routes/holds.py": "tests/api/test_holds.py",
        "api/routes/sales.py": "tests/api/test_sales.py",
        "api/holder_schemas.py": "tests/api/test_documentation.py",
        "api/problem_schemas.py": "tests/api/test_documentation.py",
        "api/ops_schemas.py": "tests/api/test_documentation.py",
        "api/routes/operating.py": "tests/api/test_operating.py",
        "api/schemas.py": "tests/api/test_documentation.py",
        "boxoffice/access/sessions.py": "tests/api/test_ops_session.py",
        "boxoffice/backoffice/operating.py": "tests/api/test_operating.py",
        "boxoffice/backoffice/watched.py": "tests/boxoffice/backoffice/test_watching.py",
        "api/transport/cycle.py": "tests/api/streams/test_opening.py",
        "boxoffice/errors.py": "tests/api/test_problems.py",
        "boxoffice/wire/event_requests.py": "tests/api/test_sales.py",
        "boxoffice/wire/parameters.py": "tests/api/test_lists.py",
    },
    "at a terminal, as an operator meets it": {
        "boxoffice/backoffice/desk.py": "tests/ops/test_back_office.py",
        "boxoffice/backoffice/exporting.py": "tests/ops/test_export_command.py",
        "boxoffice/backoffice/figures.py": "tests/ops/test_back_office.py",
        "boxoffice/backoffice/finding.py": "tests/ops/test_back_office.py",
        "boxoffice/backoffice/overview.py": "tests/ops/test_status_command.py",
        "boxoffice/backoffice/forgetting.py": "tests/ops/test_customers_command.py",
        "ops/commands/_office.py": "tests/ops/test_acl_command.py",
        "ops/commands/_events_control.py": "tests/ops/test_events_commands.py",
        "ops/commands/_events_shown.py": "tests/ops/test_events_commands.py",
        "ops/commands/allocations.py": "tests/ops/test_allocations_command.py",
        "ops/commands/backup.py": "tests/ops/test_backup_command.py",
        "ops/commands/bookings.py": "tests/ops/test_back_office.py",
        "ops/commands/codes.py": "tests/ops/test_codes_command.py",
        "ops/commands/clients.py": "tests/ops/test_repair_commands.py",
        "ops/commands/dead.py": "tests/ops/test_money_commands.py",
        "ops/commands/events.py": "tests/ops/test_repair_commands.py",
        "ops/commands/export.py": "tests/ops/test_export_command.py",
        "ops/commands/keys.py": "tests/ops/test_keys.py",
        "ops/commands/payments.py": "tests/ops/test_money_commands.py",
        "ops/commands/reconcile.py": "tests/ops/test_repair_commands.py",
        "ops/commands/sales.py": "tests/ops/test_back_office.py",
        "ops/commands/webhooks.py": "tests/ops/test_webhooks_command.py",
        "ops/commands/status.py": "tests/ops/test_status_command.py",
    },
    "by what uses it, for it is a list of words, keys or limits, or one assembly": {
        "boxoffice/books/decisions.py": "tests/boxoffice/settlement/test_deciding.py",
        "boxoffice/office.py": "tests/conftest.py",
        "boxoffice/setting_parts.py": "tests/boxoffice/test_settings.py",
        "boxoffice/states.py": "tests/lua/test_states.py",
        "boxoffice/stores/keys.py": "tests/test_docs.py",
        "boxoffice/stores/models/bookings.py": "tests/boxoffice/stores/test_models.py",
        "boxoffice/stores/models/catalogue.py": "tests/boxoffice/stores/test_models.py",
        "boxoffice/stores/models/money.py": "tests/boxoffice/stores/test_models.py",
        "boxoffice/stores/models/webhooks.py": "tests/boxoffice/stores/test_models.py",
    },
    "with the other half of what it does": {
        "boxoffice/bookings/listing.py": "tests/boxoffice/bookings/test_reading.py",
        "boxoffice/bookings/rows.py": "tests/boxoffice/bookings/test_reading.py",
        "boxoffice/books/call_offs.py": "tests/boxoffice/bookings/test_calling_off.py",
        "boxoffice/repair/failing.py": "tests/boxoffice/repair/test_parked_records.py",
        "boxoffice/sales/capacity.py": "tests/boxoffice/sales/test_control.py",
        "boxoffice/sales/checks.py": "tests/boxoffice/sales/test_control.py",
        "boxoffice/books/sold.py": "tests/boxoffice/money/test_refunds.py",
        "boxoffice/books/dead_letters.py": "tests/boxoffice/repair/test_parked.py",
        "boxoffice/books/payments.py": "tests/boxoffice/money/test_pump.py",
        "api/transport/cycle.py": "tests/api/transport/test_connection.py",
        "boxoffice/gateway/simulator/deliveries.py": "tests/boxoffice/gateway/test_webhooks.py",
        "boxoffice/gateway/simulator/signing.py": "tests/boxoffice/gateway/test_webhooks.py",
        "boxoffice/gateway/stripe/reversals.py": "tests/boxoffice/money/test_reversals.py",
    },
    "by a whole rush and by planted damage": {
        "ops/rush/asking.py": "tests/ops/rush/test_run.py",
        "ops/rush/blows.py": "tests/ops/rush/test_plan.py",
        "ops/rush/booking_checks.py": "tests/ops/rush/test_audit.py",
        "ops/rush/chaos.py": "tests/ops/rush/test_plan.py",
        "ops/rush/customers.py": "tests/ops/rush/test_run.py",
        "ops/rush/history.py": "tests/ops/rush/test_audit.py",
        "ops/rush/http_client.py": "tests/ops/rush/test_client.py",
        "ops/rush/money_checks.py": "tests/ops/rush/test_audit.py",
        "ops/rush/owed_checks.py": "tests/ops/rush/test_audit.py",
        "ops/rush/performance.py": "tests/ops/rush/test_run.py",
        "ops/rush/promotion.py": "tests/ops/rush/test_plan.py",
        "ops/rush/report.py": "tests/ops/rush/test_run.py",
        "ops/rush/rest.py": "tests/ops/rush/test_audit.py",
        "ops/rush/stock_checks.py": "tests/ops/rush/test_audit.py",
    },
    "by servers and processes that are started": {
        "ops/stack/backups.py": "tests/ops/stack/test_restoring.py",
        "ops/stack/binaries.py": "tests/ops/stack/test_servers.py",
        "ops/stack/data_dir.py": "tests/ops/stack/test_servers.py",
        "ops/stack/postgresql.py": "tests/ops/stack/test_servers.py",
        "ops/stack/processes.py": "tests/ops/stack/test_stack.py",
        "ops/stack/running.py": "tests/ops/stack/test_stack.py",
        "ops/stack/supervisor.py": "tests/ops/stack/test_stack.py",
        "ops/rush/watched.py": "tests/pages/test_rush.py",
        "ops/stack/valkey.py": "tests/ops/stack/test_servers.py",
    },
}  # fmt: skip

PLACES = {module: test for places in ELSEWHERE.values() for module, test in places.items()}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def modules() -> list[str]:
    found = (path for folder in ("api", "boxoffice", "worker", "ops") for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.stem != "__init__")


def its_tests(module: str) -> list[Path]:
    """Those that bear its name, in the folder that is named like its own."""
    folder, stem = (ROOT / "tests" / module).parent, Path(module).stem
    return sorted(
        [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}s.py"), *folder.glob(f"test_{stem}_*.py")]
    )


@pytest.mark.parametrize("module", [module for module in modules() if lines(ROOT / module) >= LEAST])
def test_every_module_of_some_size_has_its_tests(module: str) -> None:
    there = its_tests(module) or [ROOT / PLACES[module]] if module in PLACES else its_tests(module)
    assert there, (
        f"write tests/{Path(module).parent}/test_{Path(module).stem}.py, or say in this file where it is tried"
    )
    assert all("def test_" in path.read_text() or path.name == "conftest.py" for path in there)


def test_only_modules_are_said_to_be_tried_elsewhere() -> None:
    assert sorted(PLACES.keys() - {*modules()}) == []


def test_no_file_of_tests_is_longer_than_a_subject() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines(path)
        for path in (ROOT / "tests").rglob("test_*.py")
        if "/." not in path.as_posix() and lines(path) > LONGEST
    }
    assert long == {}


def test_every_folder_of_tests_is_named_like_a_package() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests/boxoffice").rglob("test_*.py")}
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").exists()] == []
