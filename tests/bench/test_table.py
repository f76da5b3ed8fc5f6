import pytest

from bench.figures import Figure, Growth, Memory, Results, Round, between
from bench.stopwatch import Stopwatch
from bench.table import markdown, targets
from bench.whole import grows


def figure(name: str, rate: float, **more) -> Figure:
    return Figure(name=name, rate=rate, count=1_000, p50_ms=5.0, p99_ms=12.0, **more)


def results(**more) -> Results:
    slow = {
        "noop": figure("noop", 20_000),
        "admission": figure("admission", 9_000, noop_rate=20_000),
        "hot": figure("hot", 5_000, noop_rate=20_000, cpu_us={"api": 30.0, "redis": 50.0, "load": 20.0}),
        "baseline": figure("baseline", 500, clients=8),
    }
    fast = {
        "noop": figure("noop", 40_000),
        "admission": figure("admission", 14_000, noop_rate=40_000),
        "hot": figure("hot", 8_000, noop_rate=40_000, commit_p99_ms=90.0, cpu_us={"api": 20.0, "load": 9.0}),
        "forty": figure("forty", 7_200, noop_rate=40_000),
        "half": figure("half", 4_000, post_commit_p99_ms=35.0),
        "baseline": figure("baseline", 500, clients=8),
    }
    held = {f"I{n}": "held" for n in range(1, 10)}
    values = {
        "began": "2030-01-01 10:00 UTC",
        "took_s": 600.0,
        "quick": False,
        "machine": {"machine": "2 CPUs"},
        "settings": {"settings": "all defaults"},
        "rounds": [Round(figures=slow, audit=held, seconds=60.0), Round(figures=fast, audit=held, seconds=60.0)],
        "growth": [],
        "growth_audit": {},
    }
    return Results(**{**values, **more})


def test_the_best_round_counts_with_the_no_op_beside_it():
    best = results().best("hot")
    assert best is not None
    assert (best.rate, best.noop_rate) == (8_000, 40_000)
    assert results().best_of_noop("hot") == 0.25


def test_a_ratio_is_taken_within_a_round():
    assert results().best_ratio("hot", "baseline") == 16
    assert results().best_ratio("hot", "script") is None


def test_the_load_generator_costs_no_booking_anything():
    best = results().best("hot")
    assert best is not None
    assert best.cpu_sum_us == 20


def test_each_target_says_how_far_it_is():
    grades = {target.title: target.grade for target in targets(results())}
    assert grades["admission through HTTP"] == "must met"
    assert grades["end to end to baseline"] == "must met"
    assert grades["full rate: p99 of admitted to committed"] == "aim met"
    assert grades["Redis memory, pending"] == "not measured"


def test_the_page_has_every_part():
    fixed = figure("level", 4_000, offered_rate=4_000.0, cpu_us={"api": 90.0})
    level = Growth(made=1_000, open_loop=fixed, closed_loop=fixed, redis_mb=1.0, postgres_mb=12.0)
    found = results(growth=[level, level], growth_audit={"I1": "held"})
    found.rounds[0].memory = Memory(bookings=20_000, pending=690.0, settled=440.0, parts={"record, settled": 300.0})
    page = markdown(found)
    for part in ("(a) no-op", "e/f end to end", "## Targets", "## As it grows", "**690 bytes pending", "3 audits, all"):
        assert part in page
    header, *lines = [line for line in page.splitlines() if line.startswith("|") and line.count("|") > 12]
    assert all(line.count("|") == header.count("|") for line in lines)


def test_what_grew_is_compared_side_by_side_where_it_was_measured_so():
    few = figure("few", 4_000, cpu_us={"api": 90.0})
    many = figure("many", 4_000, cpu_us={"api": 180.0})
    level = Growth(made=1_000, open_loop=few, closed_loop=few, redis_mb=1.0, postgres_mb=12.0)
    most = Growth(made=9_000, open_loop=many, closed_loop=many, redis_mb=1.0, postgres_mb=12.0)

    def grown() -> float | None:
        found = targets(results(growth=[level, most]))
        return next(target.value for target in found if target.title == "CPU at 9,000 bookings to 1,000")

    assert grown() == 2
    most.dearer = [1.3, 1.1, 0.9]
    assert grown() == 1.1


def test_a_broken_audit_cannot_be_overlooked():
    found = results(growth_audit={"I1": "held", "I6": "broken"})
    assert not found.sound
    assert "**audit BROKEN in growth: I6**" in markdown(found)


def test_a_backlog_grows_when_more_and_more_waits():
    assert grows([100 * n for n in range(30)], rate=1_000)
    assert not grows([500, 0, 480, 510, 20, 500] * 5, rate=10_000)
    assert not grows([], rate=1_000)


def test_what_was_measured_between_two_slices_is_compared_with_them_alone():
    """The line of the other stands for another minute, in which the machine was twice as fast."""
    found = results()
    assert found.ratios("forty", "hot") == [0.9]

    forty = found.rounds[1].figures["forty"]
    forty.ratios = {"hot": between(figure("before", 7_000), forty, figure("after", 8_000))}

    assert found.ratios("forty", "hot") == [0.96]
    assert {target.title: target.value for target in targets(found)}[
        "one hot tier and forty: the slower to the faster"
    ] == pytest.approx(0.96)


def test_evenness_is_the_same_either_way():
    found = results()
    found.rounds[1].figures["forty"].ratios = {"hot": 1.25}
    assert {target.value for target in targets(found) if target.title.startswith("one hot tier and forty")} == {0.8}


def test_a_line_that_was_slower_than_its_neighbours_is_below_one():
    assert between(figure("before", 10_000), figure("it", 5_000), figure("after", 30_000)) == 0.25


def test_the_page_says_how_long_audits_took():
    found = results(growth_took_s={"start": 4.0, "audit": 41.6})
    found.rounds[1].took_s = {"audit": 11.2}
    assert "audits of every booking: 11, 42 s" in markdown(found)
    assert "audits of every booking" not in markdown(results())


def test_a_stopwatch_adds_up_parts_of_one_name():
    times = iter([0.0, 2.0, 5.0, 6.0])
    watch = Stopwatch(lambda: next(times))
    for part in ("no-op", "hot", "no-op"):
        watch.split(part)
    assert watch.took_s == {"no-op": 3.0, "hot": 3.0}
    assert watch.line == "6 s: no-op 3.0, hot 3.0"
