"""How long deliveries and endpoints are left alone: pure, so no server and no clock."""

from __future__ import annotations

import pytest

from boxoffice.webhook_settings import WebhookSettings
from boxoffice.webhooks.patience import PROBE_MAX_S, health_after, next_try_s, probe_pause_s
from boxoffice.webhooks.sending import Outcome

SETTINGS = WebhookSettings()

GOOD = Outcome("", 204, None, 0.1)
BAD = Outcome("status", 500, None, 0.1)
HANGS = Outcome("timeout", None, None, 15.0)
BUSY = Outcome("status", 503, 30.0, 0.1)
GONE = Outcome("gone", 410, None, 0.1)


def least() -> float:
    return 0.0


def most() -> float:
    return 0.999999


def test_pauses_of_a_delivery_double_up_to_an_hour() -> None:
    assert [next_try_s(tries, BAD, SETTINGS, least) for tries in (1, 2, 3, 10, 11, 1_000)] == [
        5, 10, 20, 2_560, 3_600, 3_600,
    ]  # fmt: skip


def test_chance_takes_up_to_half_of_a_pause() -> None:
    assert 2.5 <= next_try_s(1, BAD, SETTINGS, most) < 2.51


def test_in_three_days_a_delivery_is_tried_some_eighty_times() -> None:
    waited, tries = 0.0, 1
    while waited < SETTINGS.give_up_s:
        waited += next_try_s(tries, BAD, SETTINGS, least)
        tries += 1
    assert 75 <= tries <= 90


@pytest.mark.parametrize(("asked_s", "pause_s"), [(1.0, 5), (60.0, 60), (3_600.0, 3_600), (1e9, 3_600)])
def test_an_endpoint_may_ask_for_a_longer_pause_but_not_for_ever(asked_s: float, pause_s: float) -> None:
    assert next_try_s(1, BUSY._replace(retry_after_s=asked_s), SETTINGS, least) == pause_s
    said = health_after(0, [BUSY._replace(retry_after_s=asked_s)], [], SETTINGS, least)
    assert said.pause_s == pause_s


def test_an_endpoint_that_takes_nothing_is_asked_ever_more_seldom() -> None:
    failures, pauses = 0, []
    for _ in range(8):
        said = health_after(failures, [HANGS], [], SETTINGS, least)
        failures = said.failures
        pauses.append(said.pause_s)
    assert pauses == [5, 10, 20, 40, 80, PROBE_MAX_S, PROBE_MAX_S, PROBE_MAX_S]
    assert probe_pause_s(10_000, SETTINGS, least) == PROBE_MAX_S


def test_one_good_delivery_ends_it() -> None:
    said = health_after(7, [BAD, GOOD], [BAD], SETTINGS, least)
    assert (said.well, said.failures, said.pause_s, said.slow) == (True, 0, None, False)


def test_a_notice_that_always_fails_makes_no_endpoint_wait() -> None:
    """It is tried again and again; what comes for the first time is not kept waiting for it."""
    said = health_after(0, [], [BAD], SETTINGS, least)
    assert (said.well, said.failures, said.pause_s) == (False, 0, None)
    assert health_after(0, [GOOD], [BAD], SETTINGS, least).pause_s is None


def test_one_that_is_well_may_ask_to_be_left_alone() -> None:
    said = health_after(0, [GOOD, BUSY], [], SETTINGS, least)
    assert (said.well, said.failures, said.pause_s) == (True, 0, 30)


@pytest.mark.parametrize(
    ("first", "slow"), [([GOOD], False), ([BAD], True), ([GOOD, HANGS], True), ([GOOD._replace(took_s=2.1)], True)]
)
def test_who_failed_or_took_its_time_is_slow(first: list[Outcome], slow: bool) -> None:
    assert health_after(0, first, [], SETTINGS, least).slow is slow


def test_who_wants_no_more_is_heard_even_among_others() -> None:
    assert health_after(0, [GOOD, GONE], [], SETTINGS, least).gone
    assert health_after(0, [], [GONE], SETTINGS, least).gone
    assert not health_after(0, [GOOD, BAD], [], SETTINGS, least).gone
