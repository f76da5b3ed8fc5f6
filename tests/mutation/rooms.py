"""Which room a file belongs to, and which tests look after a file that no test in this process runs."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["ROOMS", "ROOT", "also_tests", "files_of", "name_of", "room_of", "slow_tests"]

ROOT = Path(__file__).resolve().parents[2]

ROOMS = (
    "repair", "admission", "settlement", "bookings", "wire", "money", "books", "sales", "access", "gateway", "stores",
    "telemetry", "backoffice", "notices", "webhooks",
)  # fmt: skip
"""Rooms of boxoffice/ that are counted apart. Its words (errors, settings, ...) count as one; so do api, worker, lua, sql."""

_NEVER = ("*/__init__.py", "boxoffice/crashpoint.py")

_SLOW: dict[str, str] = {
    "api/server.py": "tests/api/transport/test_server.py",
    "api/transport/connection.py": "tests/api/transport/test_server.py tests/api/transport/test_wire.py"
    " tests/api/transport/test_slow_clients.py",
    "api/transport/lane.py": "tests/api/transport/test_wire.py tests/api/transport/test_server.py",
    "api/transport/head.py": "tests/api/transport/test_head.py tests/api/transport/test_wire.py",
    "api/transport/reader.py": "tests/api/transport/test_wire.py tests/api/transport/test_server.py",
    "api/transport/reply.py": "tests/api/transport/test_wire.py",
    "api/transport/listener.py": "tests/api/transport/test_listener.py",
    "api/front.py": "tests/api/transport/test_wire.py",
    "api/quiet.py": "tests/api/transport/test_server.py",
    "worker/*": "tests/invariants/test_crashes.py tests/story",
    "boxoffice/repair/guard.py": "tests/boxoffice/repair/test_guard.py tests/boxoffice/repair/test_guard_acts.py",
    "boxoffice/stores/fence.py": "tests/invariants/test_fence.py",
    "lua/*": "tests/invariants/test_model.py",
}


_ALSO: dict[str, str] = {
    "boxoffice/backoffice/*.py": "tests/ops/test_back_office.py tests/ops/test_sales_command.py"
    " tests/ops/test_export_command.py tests/ops/test_customers_command.py"
    " tests/ops/test_status_command.py",
    "boxoffice/books/personal.py": "tests/ops/test_customers_command.py",
    "boxoffice/books/interventions.py": "tests/ops/test_back_office.py",
    "boxoffice/*/[dhlmopr]*.py": "tests/boxoffice/test_ownership.py",
    "boxoffice/repair/[dmr]*.py": "tests/boxoffice/repair/test_repairing_neighbours.py",
    "api/transport/[ls][ah]*.py": "tests/api/test_ownership.py tests/api/test_limits.py",
    "boxoffice/*requests.py": "tests/api/test_limits.py",
    "boxoffice/bookings/cancellations.py": "tests/boxoffice/bookings/test_cancelling_holds.py"
    " tests/boxoffice/money/test_refunds.py tests/api/test_holds.py",
    "boxoffice/ids.py": "tests/boxoffice/test_ids.py tests/boxoffice/money/test_money_keys.py",
    "boxoffice/money/pump.py": "tests/boxoffice/money/test_pump.py tests/boxoffice/money/test_late.py",
    "boxoffice/books/payments.py": "tests/boxoffice/money/test_pump.py tests/boxoffice/money/test_late.py"
    " tests/boxoffice/money/test_amounts.py tests/boxoffice/money/test_money_keys.py"
    " tests/boxoffice/repair/test_payments_audit.py tests/boxoffice/money/test_accounts.py",
    "boxoffice/books/refunds.py": "tests/boxoffice/money/test_owed_apart.py tests/boxoffice/money/test_owed.py"
    " tests/boxoffice/money/test_pump.py tests/boxoffice/money/test_money_keys.py",
    "boxoffice/books/looks.py": "tests/boxoffice/money/test_reversals.py tests/boxoffice/money/test_pump.py"
    " tests/boxoffice/repair/test_recovery.py",
    "boxoffice/books/messages.py": "tests/boxoffice/money/test_pump.py tests/boxoffice/money/test_webhooks.py",
    "boxoffice/books/inventory.py": "tests/boxoffice/money/test_refunds.py tests/boxoffice/money/test_refunds_again.py"
    " tests/boxoffice/settlement/test_draining.py",
    "boxoffice/books/co[lp]*.py": "tests/boxoffice/books/test_rows.py tests/boxoffice/money/test_amounts.py"
    " tests/boxoffice/settlement/test_draining.py",
    "boxoffice/books/inserting.py": "tests/boxoffice/books/test_rows.py tests/boxoffice/settlement/test_draining.py",
    "boxoffice/repair/differences.py": "tests/boxoffice/repair/test_payments_audit.py tests/boxoffice/money/test_accounts.py",
    "boxoffice/repair/failing.py": "tests/boxoffice/repair/test_parked.py tests/boxoffice/repair/test_failing.py",
    "boxoffice/repair/salvage.py": "tests/boxoffice/repair/test_parked.py tests/boxoffice/repair/test_parked_records.py",
    "boxoffice/books/poisoned.py": "tests/boxoffice/repair/test_parked.py",
    "boxoffice/books/dead_letters.py": "tests/boxoffice/repair/test_parked.py",
    "boxoffice/books/bookings.py": "tests/boxoffice/bookings/test_holds.py tests/boxoffice/money/test_refunds.py"
    " tests/boxoffice/money/test_amounts.py",
    "boxoffice/money/late.py": "tests/boxoffice/money/test_pump.py tests/boxoffice/money/test_webhooks.py"
    " tests/boxoffice/money/test_reversals.py",
    "boxoffice/money/refunds.py": "tests/boxoffice/money/test_amounts.py tests/boxoffice/money/test_money_keys.py"
    " tests/boxoffice/money/test_owed_apart.py",
    "boxoffice/money/mirror.py": "tests/boxoffice/money/test_refunds.py tests/boxoffice/books/test_moves.py"
    " tests/boxoffice/repair/test_recovery.py",
    "boxoffice/money/terms.py": "tests/boxoffice/money/test_terms.py tests/boxoffice/money/test_refunds.py",
    "boxoffice/books/[gs][io][lv]*.py": "tests/boxoffice/money/test_refunds.py tests/boxoffice/money/test_amounts.py"
    " tests/boxoffice/money/test_money_keys.py tests/boxoffice/money/test_owed_apart.py",
    "boxoffice/money/refund_pump.py": "tests/boxoffice/money/test_owed.py",
    "boxoffice/money/owed.py": "tests/boxoffice/money/test_owed_apart.py tests/boxoffice/money/test_money_keys.py",
    "boxoffice/money/reversals.py": "tests/boxoffice/money/test_owed_apart.py tests/boxoffice/money/test_pump.py"
    " tests/boxoffice/money/test_owed.py",
    "boxoffice/repair/reversal_audit.py": "tests/boxoffice/money/test_reversals.py tests/boxoffice/money/test_owed_apart.py",
    "boxoffice/books/rows.py": "tests/boxoffice/money/test_amounts.py tests/boxoffice/money/test_money_keys.py"
    " tests/boxoffice/settlement/test_draining.py tests/boxoffice/settlement/test_failures.py"
    " tests/boxoffice/settlement/test_several_workers.py tests/boxoffice/settlement/test_duplicates.py",
    "boxoffice/repair/dossier.py": "tests/boxoffice/repair/test_parked.py tests/ops/test_repair_commands.py",
    "boxoffice/bookings/reading.py": "tests/api/test_booking.py tests/api/test_reading.py tests/api/test_lists.py",
    "boxoffice/bookings/listing.py": "tests/api/test_lists.py tests/boxoffice/bookings/test_reading.py",
    "boxoffice/bookings/rows.py": "tests/api/test_booking.py tests/api/test_lists.py tests/boxoffice/bookings/test_reading.py",
    "boxoffice/setting*.py": "tests/boxoffice/test_settings.py tests/boxoffice/money/test_misconfigured.py tests/test_docs.py",
    "boxoffice/states.py": "tests/test_docs.py",
    "boxoffice/stores/keys.py": "tests/test_docs.py",
    "boxoffice/stores/models/*.py": "tests/boxoffice/stores/test_models.py",
    "boxoffice/*.py": "tests/boxoffice/test_values.py",
    "api/*.py": "tests/boxoffice/test_values.py",
    "api/server.py": "tests/api/test_serve.py",
    "boxoffice/wire/parameters.py": "tests/api/test_lists.py",
    "boxoffice/sales/loading.py": "tests/boxoffice/sales/test_control.py",
    "boxoffice/errors.py": "tests/boxoffice/test_errors.py tests/test_docs.py",
    "api/*schemas.py": "tests/api/test_documentation.py",
    "api/refusals.py": "tests/api/test_documentation.py",
    "api/transport/connection.py": "tests/api/transport/test_connection.py tests/api/transport/test_connection_turns.py",
    "api/[adp]*.py": "tests/api/test_whole_answers.py",
    "api/dependencies.py": "tests/api/test_documentation.py",
    "boxoffice/sales/store.py": "tests/boxoffice/sales/test_catalogue.py",
    "api/routes/*": "tests/api/test_whole_answers.py",
    "api/routes/*.py": "tests/api/test_documentation.py",
    "worker/*.py": "tests/worker/test_app.py tests/worker/test_rounds.py tests/worker/test_doorbell.py",
    "boxoffice/books/finals.py": "tests/boxoffice/settlement/test_draining.py tests/boxoffice/books/test_trim.py",
    "boxoffice/books/rewrite.py": "tests/boxoffice/repair/test_rebuild.py",
    "boxoffice/stores/rewind.py": "tests/boxoffice/repair/test_rewinding.py tests/lua/test_rewind.py",
    "boxoffice/gateway/simulator/deliveries.py": "tests/boxoffice/gateway/test_webhooks.py tests/ops/bank/test_server.py",
    "boxoffice/gateway/simulator/givings.py": "tests/boxoffice/gateway/simulator/test_ledger.py"
    " tests/boxoffice/gateway/test_contract.py",
    "boxoffice/gateway/factory.py": "tests/boxoffice/test_currencies.py",
    "boxoffice/gateway/messages.py": "tests/boxoffice/gateway/simulator/test_remote.py"
    " tests/boxoffice/gateway/test_contract.py",
    "boxoffice/gateway/stripe*.py": "tests/boxoffice/gateway/stripe/test_stripe.py tests/boxoffice/gateway/test_contract.py",
    "boxoffice/gateway/stripe/reversals.py": "tests/boxoffice/money/test_reversals.py",
    "boxoffice/gateway/s[ic]*.py": "tests/boxoffice/gateway/test_contract.py tests/boxoffice/gateway/simulator/test_ledger.py",
    "api/routes/bookings.py": "tests/api/test_booking.py tests/api/test_lists.py tests/api/test_bad_requests.py",
    "api/answers.py": "tests/api/test_booking.py tests/api/test_bad_requests.py tests/api/test_reading.py",
    "api/app.py": "tests/api/transport/test_server.py",
    "api/transport/turns.py": "tests/api/transport/test_wire.py tests/api/transport/test_server.py",
    "api/cors.py": "tests/api/test_cors.py",
    "boxoffice/backoffice/readiness.py": "tests/boxoffice/backoffice/test_readiness.py tests/api/test_health.py",
    "lua/lib/give_back.lua": "tests/lua/test_holds.py tests/lua/test_unpaid.py",
    "lua/lib/count_unpaid.lua": "tests/lua/test_unpaid.py tests/lua/test_holds.py",
    "lua/lib/*given_up.lua": "tests/lua/test_given_up.py",
    "lua/lib/most_unpaid.lua": "tests/lua/test_given_up.py",
    "lua/admit.lua": "tests/lua/test_unpaid.py tests/lua/test_given_up.py",
    "lua/lib/read_*.lua": "tests/lua/test_unpaid.py tests/lua/test_given_up.py tests/lua/test_codes.py"
    " tests/lua/test_rates.py tests/lua/test_declines.py",
    "lua/lib/too_much_unpaid.lua": "tests/lua/test_unpaid.py tests/lua/test_given_up.py",
    "lua/lib/rate_limited.lua": "tests/lua/test_rates.py",
    "lua/lib/examine.lua": "tests/lua/test_windows.py tests/lua/test_rules.py",
    "lua/lib/shortage.lua": "tests/lua/test_allocations.py",
    "lua/lib/availability_of.lua": "tests/lua/test_allocations.py",
    "lua/lib/fields_of.lua": "tests/lua/test_unpaid.py tests/lua/test_rules.py",
    "lua/correct.lua": "tests/boxoffice/repair/test_rebuild.py",
    "lua/settle.lua": "tests/lua/test_given_up.py tests/lua/test_unpaid.py",
    "lua/open.lua": "tests/boxoffice/stores/test_gate.py",
    "lua/lib/closing.lua": "tests/lua/test_windows.py",
    "lua/lib/*code*.lua": "tests/lua/test_codes.py",
    "lua/lib/*rules.lua": "tests/lua/test_rules.py",
    "lua/lib/*owned*.lua": "tests/lua/test_rules.py tests/lua/test_holds.py",
    "lua/lib/windows.lua": "tests/lua/test_windows.py",
}
"""Tests that neither bear the name of a file nor import it."""


def also_tests(path: str) -> list[str]:
    """Files of tests that look after a file under another name."""
    return [test for pattern, tests in _ALSO.items() if fnmatch(path, pattern) for test in tests.split()]


def name_of(path: str) -> str:
    """`boxoffice/gateway/simulator/cards.py` is `gateway/simulator/cards`, `api/answers.py` is `answers`."""
    return re.sub(r"^(boxoffice|api|worker|lua)/|\.(py|lua)$", "", path)


def room_of(path: str, *, sql: bool = False) -> str:
    """The room of a file, from the root of the repository."""
    if sql:
        return "sql"
    folder = path.partition("/")[0]
    if folder != "boxoffice":
        return folder
    room = path.split("/")[1]
    return room if room in ROOMS else "words"


def files_of(root: Path = ROOT) -> list[str]:
    """Everything that may be mutated."""
    found = [*root.glob("boxoffice/**/*.py"), *root.glob("api/**/*.py"), *root.glob("worker/**/*.py")]
    names = sorted(str(path.relative_to(root)) for path in [*found, *root.glob("lua/**/*.lua")])
    return [name for name in names if not any(fnmatch(name, never) for never in _NEVER)]


def slow_tests(path: str) -> list[str]:
    """Files of tests that start processes, for code that runs in those."""
    return [test for pattern, tests in _SLOW.items() if fnmatch(path, pattern) for test in tests.split()]
