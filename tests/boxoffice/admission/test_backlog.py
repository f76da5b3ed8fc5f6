"""When a shop is told to look again: soon while workers keep up, later the longer the backlog takes, and never too late."""

from __future__ import annotations

from boxoffice.admission.backlog import LEAST_S, MOST_S, Backlog, pause_s


def test_while_workers_keep_up_it_is_a_second() -> None:
    backlog = Backlog()
    assert backlog.wait_s(0) == LEAST_S
    for second in range(10):
        backlog.note(500, 1_000 * second, second)
        assert backlog.wait_s(second) == LEAST_S


def test_it_is_the_backlog_by_the_rate_at_which_it_is_claimed() -> None:
    backlog = Backlog()
    backlog.note(4_000, 10_000, 0.0)
    assert backlog.wait_s(0.0) == 4, "1,000 a second, until that was measured"
    backlog.note(5_000, 11_500, 0.25)  # too soon to measure
    assert backlog.wait_s(0.25) == 5
    backlog.note(6_000, 13_000, 0.5)  # 6,000 were claimed, now 7,000: 2,000 a second
    assert backlog.wait_s(0.5) == 3
    backlog.note(6_000, 13_400, 1.5)  # 400 a second
    assert backlog.wait_s(1.5) == 15


def test_nobody_is_told_to_wait_for_longer_than_is_documented() -> None:
    """Not when nobody settles at all, nor when claims went back, as a rebuilt Redis has them."""
    backlog = Backlog()
    for second in range(5):
        backlog.note(1_000 * second + 600, 1_000 * second, second)
        assert LEAST_S <= backlog.wait_s(second) <= MOST_S
    assert backlog.wait_s(4) == MOST_S
    backlog.note(600, 0, 10)
    assert backlog.wait_s(10) == MOST_S


def test_it_becomes_less_as_time_goes_by() -> None:
    """Of what a call said a while ago."""
    backlog = Backlog()
    backlog.note(8_000, 9_000, 100.0)
    assert [backlog.wait_s(100.0 + later) for later in (0, 1, 3.5, 8, 60)] == [8, 7, 5, LEAST_S, LEAST_S]


def test_a_backlog_that_is_gone_keeps_nobody_waiting() -> None:
    backlog = Backlog()
    backlog.note(8_000, 9_000, 0.0)
    backlog.note(0, 9_000, 2.0)
    assert backlog.wait_s(2.0) == LEAST_S


def test_who_has_waited_for_long_looks_less_often() -> None:
    assert [pause_s(1, age) for age in (-5.0, 0.0, 3.9, 8.0, 40.0, 119.9, 1e9)] == [1, 1, 1, 2, 10, 29, MOST_S]
    assert pause_s(7, 8.0) == 7
