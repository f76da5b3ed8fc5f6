"""Every function that takes, finds out or passes on a shard, and the tests that fail when it is another one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PLACES", "functions"]

_ALL = ("_shards", "shards", "Shards", "open_shards")
"""Who keeps all of them has named none yet."""

FOLDERS = ("api", "boxoffice", "ops", "worker")


def functions(root: Path) -> dict[str, list[str]]:
    """By file, the functions and methods that name a shard, in the order in which they are written."""
    found: dict[str, list[str]] = {}
    for file in sorted(file for folder in FOLDERS for file in (root / folder).rglob("*.py")):
        if names := list(_functions(ast.parse(file.read_text()), "")):
            found[str(file.relative_to(root))] = names
    return found


def _functions(tree: ast.AST, prefix: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_names_a_shard, ast.walk(node))):
            yield prefix + node.name


def _names_a_shard(node: ast.AST) -> bool:
    name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
    return isinstance(node, ast.Name | ast.Attribute | ast.arg) and "shard" in str(name) and name not in _ALL


PLACES: dict[str, tuple[str, str]] = {
    "boxoffice/backoffice/alerts.py": (
        "_no_worker _gate _silent _old _drift",
        "tests/boxoffice/backoffice/test_alerts.py::test_a_rule_waits_as_long_as_it_says_and_then_fires",
    ),
    "boxoffice/backoffice/watching.py": (
        "Watching._figures Watching._sales _counters _shard",
        "tests/boxoffice/backoffice/test_watching.py tests/api/test_operating.py::test_figures_say_how_it_goes",
    ),
    "boxoffice/backoffice/declined.py": (
        "declined",
        "tests/boxoffice/backoffice/test_declined.py::test_each_shard_counts_its_own",
    ),
    "boxoffice/backoffice/readiness.py": (
        "Readiness.redis Readiness._try_to_write Readiness._postgresql",
        "closes_readiness tests/api/test_health.py",
    ),
    "boxoffice/admission/admission.py": (
        "Admission.__init__ Admission.pause_s Admission.over_limit Admission.submit Admission._question Admission._form",
        "is_booked refuses_while_it_is_closed tests/boxoffice/admission/test_admission.py::test_each_shard_has_its_backlog "
        "tests/api/test_over_limits.py::test_who_is_over_a_limit_is_refused_without_the_script",
    ),
    "boxoffice/admission/changes.py": (
        "HoldChanges._ask HoldChanges._refusal",
        "is_changed",
    ),
    "boxoffice/bookings/held_rows.py": (
        "HeldRows._write",
        "is_changed",
    ),
    "boxoffice/admission/protocol.py": (
        "Codec.__init__ Codec.encode",
        "is_booked refuses_while_it_is_closed",
    ),
    "boxoffice/admission/over.py": (
        "Over.refusal Over.has_key Over.note Over._add",
        "tests/boxoffice/admission/test_over.py::test_others_are_not_refused",
    ),
    "boxoffice/admission/window.py": (
        "Window.__init__ Window.put Window.call Window.send",
        "is_booked refuses_while_it_is_closed",
    ),
    "boxoffice/admission/spans.py": (
        "trace_call",
        "tests/boxoffice/telemetry/test_traces_of_bookings.py::test_a_call_and_a_batch_name_their_shard",
    ),
    "boxoffice/settlement/spans.py": (
        "BatchTraces.ended",
        "tests/boxoffice/telemetry/test_traces_of_bookings.py::test_a_call_and_a_batch_name_their_shard",
    ),
    "boxoffice/backoffice/figures.py": (
        "Figures._waiting",
        "tests/ops/test_sales_command.py",
    ),
    "boxoffice/backoffice/finding.py": (
        "Finder.owner Finder._finding records _ids",
        "tests/ops/test_back_office.py",
    ),
    "boxoffice/backoffice/forgetting.py": (
        "Forgetting._records Forgetting._erase_notes Forgetting._erase_record _erase_some",
        "tests/ops/test_customers_command.py",
    ),
    "boxoffice/backoffice/overview.py": (
        "Overview.glance sale_of look_at_shard with_rates troubles_of _troubles_of_shard",
        "tests/ops/test_status_command.py",
    ),
    "boxoffice/backoffice/readings.py": (
        "Readings._look_at_redis show_shard",
        "tests/boxoffice/backoffice/test_readings.py",
    ),
    "boxoffice/bookings/calling_off.py": (
        "CallingOff.work",
        "tests/boxoffice/bookings/test_calling_off.py",
    ),
    "boxoffice/books/call_offs.py": (
        "unfinished",
        "tests/boxoffice/bookings/test_calling_off.py",
    ),
    "boxoffice/sales/capacity.py": (
        "Capacity.mirror",
        "tests/boxoffice/sales/test_control.py",
    ),
    "boxoffice/sales/control.py": (
        "Control.change_tier",
        "tests/boxoffice/sales/test_control.py",
    ),
    "boxoffice/bookings/reading.py": (
        "Bookings.record Bookings.read_records Bookings._with_held Bookings._by_key",
        "is_found is_listed_by_its_key tests/boxoffice/bookings/test_held.py",
    ),
    "boxoffice/bookings/held.py": (
        "newest_held _ids _records",
        "tests/boxoffice/bookings/test_held.py",
    ),
    "boxoffice/sales/catalogue.py": (
        "Catalogue.__init__ Catalogue.left Catalogue._read_left Catalogue.read Catalogue._read_shards",
        "is_shown_by_a_new_process",
    ),
    "boxoffice/sales/store.py": (
        "CatalogueStore.create_event CatalogueStore.emptiest_shard",
        "tests/boxoffice/sales/test_catalogue.py::test_events_are_spread_over_the_shards",
    ),
    "boxoffice/books/dead_letters.py": (
        "still_parked read_parked",
        "is_failed_by_an_operator",
    ),
    "boxoffice/repair/dossier.py": (
        "Dossiers.in_redis",
        "is_told_in_a_dossier",
    ),
    "boxoffice/stores/fence.py": (
        "told tell lost check open_batch last_batch verified",
        "went_back settles",
    ),
    "boxoffice/books/finals.py": (
        "Finals.__init__ Finals._correct",
        "is_reconciled",
    ),
    "boxoffice/stores/gate.py": (
        "look open_gate ask ask_to_load Lacking.met once_checked",
        "refuses_while_it_is_closed opened",
    ),
    "boxoffice/repair/guard.py": (
        "Guard.__init__ Guard.load Guard.look Guard.remember Guard._is_settled Guard.act Guard._start "
        "Guard._close Guard.recover Guard._rebuild Guard.after_restart Guard._log",
        "is_guarded went_back is_loaded tests/boxoffice/repair/test_guard.py tests/boxoffice/repair/test_guard_acts.py",
    ),
    "boxoffice/bookings/holds.py": (
        "Holds.read Holds._try_to_pay Holds.extend Holds.cancel Holds.expire Holds._rewind Holds.run Holds.call",
        "is_found is_paid is_extended is_cancelled expires",
    ),
    "boxoffice/ids.py": (
        "_Maker.make booking_id",
        "tests/boxoffice/test_ids.py::test_a_booking_id_is_a_uuid_that_tells_shard_and_time",
    ),
    "boxoffice/stores/heartbeats.py": (
        "beat",
        "tests/boxoffice/stores/test_heartbeats.py",
    ),
    "boxoffice/stores/jobs.py": (
        "pack_ring job_prefix",
        "tests/boxoffice/stores/test_jobs.py::test_a_real_arq_worker_runs_what_admissions_ring heard",
    ),
    "boxoffice/stores/keys.py": (
        "shard_tag event booking idempotency changes pending deadlines dead owners owned_tiers shops codes unpaid ended "
        "moved sequence told sound clock gate unchecked lacking bell probe rates declines rings workers catalogue api_keys "
        "session sums news arq_queue",
        "tests/test_docs.py tests/lua/conftest.py",
    ),
    "boxoffice/stores/news.py": (
        "News.__init__ News.listen News.forget _Line.add_shard _Line.listen _Line.forget _Line._hear _Line._tell "
        "_Line._tell_all",
        "tests/boxoffice/stores/test_news.py::test_a_batch_is_one_message "
        "tests/boxoffice/stores/test_news.py::test_each_way_of_a_booking_is_heard",
    ),
    "boxoffice/stores/shard.py": (
        "Shard.__init__ Shards.by_redis",
        "tests/boxoffice/stores/test_shard.py::test_each_shard_has_its_own",
    ),
    "boxoffice/money/late.py": (
        "LateMoney._revive Webhooks._wake",
        "comes_in_late rings",
    ),
    "boxoffice/books/queries.py": (
        "undecided finals finals_since highest_sequence",
        "is_rebuilt is_guarded is_mended",
    ),
    "boxoffice/sales/loading.py": (
        "read_events Loader.load Loader.withdraw_keys Loader.publish Loader.publish_unmirrored Loader._publish "
        "Loader._load_one Loader.load_some",
        "is_loaded is_rebuilt tests/boxoffice/sales/test_control.py",
    ),
    "boxoffice/sales/code_mirror.py": (
        "CodeMirror.behind CodeMirror.bring",
        "tests/boxoffice/sales/test_codes.py",
    ),
    "boxoffice/sales/allocations.py": (
        "Allocations.create Allocations.page Allocations._tally Allocations._shown",
        "tests/boxoffice/sales/test_allocations.py",
    ),
    "boxoffice/sales/shop_counts.py": (
        "ShopCounts.make",
        "tests/boxoffice/sales/test_shop_counts.py::test_each_shard_counts_its_own_and_in_its_own_turn",
    ),
    "boxoffice/sales/left.py": (
        "ask_left",
        "tests/boxoffice/sales/test_left.py",
    ),
    "boxoffice/sales/codes.py": (
        "AccessCodes.page AccessCodes._used",
        "tests/boxoffice/sales/test_codes.py",
    ),
    "boxoffice/repair/mend.py": (
        "Mender.__init__ Mender.mend Mender._tell Mender._unheard Mender._expire",
        "is_mended mended",
    ),
    "boxoffice/settlement/mirror.py": (
        "Mirror.__init__ Mirror.park Mirror._confirm Mirror._settle",
        "settles is_failed_by_an_operator",
    ),
    "boxoffice/books/moves.py": (
        "open_moves _call remember_applied",
        "moves",
    ),
    "boxoffice/office.py": (
        "BoxOffice.settlements BoxOffice.reconcilers BoxOffice.rebuilders BoxOffice.guards BoxOffice.menders",
        "settles is_guarded is_mended",
    ),
    "boxoffice/settlement/outage.py": (
        "Outage.__init__ Outage.begin Outage.settled Outage.over Outage.try_canary _canary",
        "tests/boxoffice/settlement/test_outages.py::test_an_outage_is_two_lines",
    ),
    "boxoffice/repair/failing.py": (
        "Failing.fail Failing.give_back",
        "is_failed_by_an_operator",
    ),
    "boxoffice/repair/parked.py": (
        "Parked._try_again Parked.retried",
        "is_retried",
    ),
    "boxoffice/repair/payments_audit.py": (
        "PaymentsAudit.run PaymentsAudit.under_way",
        "is_known_to_the_audit went_back",
    ),
    "boxoffice/bookings/records.py": (
        "Reading.read",
        "is_found",
    ),
    "boxoffice/repair/rebuild.py": (
        "shard_lock Rebuilder.__init__ Rebuilder.rebuild Rebuilder.rebuild_locked Rebuilder._see_that_nobody_waits "
        "Rebuilder._fill Rebuilder._finals Rebuilder.check Rebuilder._end_changed Rebuilder.sound_s Rebuilder._restore "
        "Rebuilder.open_gate",
        "is_rebuilt is_guarded tests/boxoffice/repair/test_rebuild.py",
    ),
    "boxoffice/repair/reconcile.py": (
        "Reconciler.__init__ Reconciler.every_event Reconciler._locked Reconciler.run "
        "Reconciler._count_customers Reconciler._shops Reconciler._backlog Reconciler._look",
        "is_reconciled is_gathered counted",
    ),
    "boxoffice/repair/recovery.py": (
        "Recovery.__init__ Recovery.recover Recovery._look Recovery._look_with Recovery.pages "
        "Recovery.see_that_it_is_ours Recovery._write_again Recovery.forget_events Recovery._records "
        "Recovery.correct",
        "went_back tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
    ),
    "boxoffice/money/mirror.py": (
        "StockMirror.tell_first StockMirror.tell StockMirror._tell",
        "is_cancelled is_refunded went_back",
    ),
    "boxoffice/money/refunds.py": (
        "Refunds.capture_refused Refunds.again Refunds.cancel_again Refunds._run Refunds._pairs_told Refunds._cancel "
        "Refunds._refund Refunds._retry",
        "is_cancelled is_refunded went_back",
    ),
    "boxoffice/repair/tools.py": (
        "Repair.reconcile Repair.one Repair._shards_of Repair._shard Repair._lost Repair._events",
        "is_repaired_by_its_event tests/boxoffice/books/test_moves.py::test_a_shard_that_is_closed_is_said_and_filled",
    ),
    "boxoffice/stores/rewind.py": (
        "rewind _waiting",
        "tests/boxoffice/repair/test_rewinding.py",
    ),
    "boxoffice/books/rewrite.py": (
        "rewrite",
        "tests/boxoffice/repair/test_recovery.py",
    ),
    "boxoffice/settlement/claims.py": (
        "Claims.__init__ Claims.extend Claims.release",
        "settles heard tests/boxoffice/settlement/test_slow.py tests/boxoffice/settlement/test_claims.py",
    ),
    "boxoffice/settlement/committing.py": (
        "Committing.__init__ Committing.settle Committing.transact _report",
        "settles is_failed_by_an_operator",
    ),
    "boxoffice/settlement/draining.py": (
        "Settlement.__init__ Settlement.batches Settlement.settle",
        "settles heard is_failed_by_an_operator",
    ),
    "boxoffice/settlement/slow.py": (
        "SlowAnswers.__init__ SlowAnswers._ended SlowAnswers.settle_answered",
        "tests/boxoffice/settlement/test_slow.py",
    ),
    "boxoffice/repair/strays.py": (
        "Strays.__init__ Strays._page Strays._log",
        "is_gathered",
    ),
    "boxoffice/repair/survey.py": (
        "suspects _waiting _counters",
        "is_guarded tests/boxoffice/repair/test_guard_acts.py",
    ),
    "ops/commands/_office.py": (
        "in_office",
        "tests/ops/test_repair_commands.py",
    ),
    "ops/commands/backup.py": (
        "restore _print_reports",
        "tests/ops/test_backup_command.py",
    ),
    "ops/commands/reconcile.py": (
        "rebuild _print",
        "tests/ops/test_repair_commands.py",
    ),
    "ops/commands/status.py": (
        "_described _tables",
        "tests/ops/test_status_command.py",
    ),
    "ops/rush/change_checks.py": (
        "check_terms",
        "tests/ops/rush/test_change_checks.py",
    ),
    "ops/rush/old_copy.py": (
        "OldCopy._look OldCopy._unpaid",
        "tests/ops/rush/test_old_copy.py",
    ),
    "ops/rush/record_checks.py": (
        "walk _read_sets _scan _check_records _check_keys",
        "tests/ops/rush/test_audit.py",
    ),
    "ops/rush/rest.py": (
        "_going_on _waiting _pending rings_waiting",
        "tests/ops/rush/test_audit.py",
    ),
    "ops/rush/sampler.py": (
        "Sampler.count Sampler.count_codes Sampler.count_sides Sampler.compare Sampler._checked",
        "tests/ops/rush/test_sampler.py",
    ),
    "ops/rush/stock_checks.py": (
        "check_stock _check_owners",
        "tests/ops/rush/test_audit.py",
    ),
    "worker/app.py": (
        "WorkerApp.work WorkerApp.check_servers",
        "heard opened loaded swept mended counted",
    ),
    "worker/doorbell.py": (
        "ring hear",
        "heard tests/worker/test_doorbell.py",
    ),
    "worker/rounds.py": (
        "Rounds.guard Rounds.load Rounds.until_load Rounds.sweep Rounds.call_off Rounds.mend Rounds.count_drift "
        "Rounds.beat Rounds._watcher Round.scope Round.works",
        "opened loaded swept mended counted tests/worker/test_rounds.py tests/boxoffice/bookings/test_calling_off.py",
    ),
}
"""File: its functions, and the tests: steps of `tests/boxoffice/test_shards.py` by their name, and others by their path."""
