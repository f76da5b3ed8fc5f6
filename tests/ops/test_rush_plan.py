"""A seed decides who comes, who is killed, and when."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from boxoffice.catalogue import EventView, TierView
from ops.processes import Child
from ops.rush.chaos import KINDS, Blow, Chaos, draw_blows
from ops.rush.history import History, quantile
from ops.rush.plan import DECLINING, GOOD_CARD, REFUND_TROUBLE, Shape, capacities, draw
from ops.rush.promotion import CLEAR_S, LAG_S

PRICES = {"FRONT": 1_000, "FLOOR": 1_000, "STAND": 1_000, "GUEST": 0}
TIERS = tuple(TierView(code.lower(), code, code, price, 100, True) for code, price in PRICES.items())
EVENTS = [EventView("e1", "Rush", "2030-01-01T00:00:00Z", 1_893_456_000_000, "active", "USD", 0, 0, TIERS)]


def test_the_same_seed_draws_the_same_rush() -> None:
    shape = Shape(seconds=5, seed=7)

    assert list(draw(shape, EVENTS)) == list(draw(shape, EVENTS))
    assert list(draw(shape, EVENTS)) != list(draw(Shape(seconds=5, seed=8), EVENTS))
    assert draw_blows(60, 7) == draw_blows(60, 7)


@pytest.mark.parametrize("burst", [False, True])
def test_customers_come_at_the_rate_in_order_with_keys_of_their_own(burst: bool) -> None:
    visits = list(draw(Shape(seconds=10, rate=200, burst=burst), EVENTS))

    assert 1_700 < len(visits) < 2_300
    assert [visit.at_s for visit in visits] == sorted(visit.at_s for visit in visits)
    assert len({visit.key for visit in visits}) == len(visits)
    if burst:
        assert visits[len(visits) // 2].at_s < 2


def test_some_decline_some_buy_several_tiers_and_the_front_sells_out() -> None:
    shape = Shape(seconds=20, rate=200)
    visits = [visit for visit in draw(shape, EVENTS) if visit.manner not in ("browse", "bad")]

    declined = sum(visit.card in DECLINING for visit in visits) / len(visits)
    assert 0.06 < declined < 0.15
    assert {len(visit.items) for visit in visits} == {1, 2, 3}
    wanted: Counter[str] = Counter()
    for visit in visits:
        wanted.update(dict(visit.items))
    assert wanted["front"] > 5 * capacities(shape)["FRONT"]
    assert wanted["stand"] < capacities(shape)["STAND"]
    free = [visit for visit in visits if visit.free]
    assert 0.03 < len(free) / len(visits) < 0.1
    assert {b'"payment"' in visit.body for visit in free} == {True, False}
    assert {visit.payment_of("4242") for visit in free} == {b"{}"}
    assert any("guest" in dict(visit.items) and not visit.free for visit in visits)


def test_whoever_gives_back_may_meet_trouble_too() -> None:
    """Refused, pending and late-failing refunds, errors that are repeated, refunds of the dashboard, disputes."""
    visits = list(draw(Shape(seconds=60, rate=200, trouble=0.2, holds=True), EVENTS))

    giving_back = Counter(visit.card for visit in visits if visit.manner in ("cancel", "refund"))
    assert set(giving_back) == {GOOD_CARD, *REFUND_TROUBLE}
    assert 0.5 < 1 - giving_back[GOOD_CARD] / giving_back.total() < 0.7
    others = {visit.card for visit in visits if visit.manner not in ("cancel", "refund")}
    assert {"4000000000010134", "4000000000010126", "4000000000000259"} < others


@pytest.mark.parametrize("seed", range(10))
def test_a_minute_of_chaos_kills_at_least_twenty_spread_over_all_four(seed: int) -> None:
    blows = draw_blows(60, seed)

    kills = Counter(blow.kind for blow in blows if blow.action == "kill")
    assert kills.total() >= 20
    assert set(kills) == set(KINDS)
    assert max(kills.values()) - min(kills.values()) <= 1
    assert max(blow.at_s for blow in blows) < 60


@pytest.mark.parametrize("seed", range(40))
def test_a_standby_is_promoted_once_or_twice_while_redis_is_well(seed: int) -> None:
    blows = draw_blows(60, seed)

    promotions = [blow for blow in blows if blow.action == "promote"]
    assert len(promotions) in (1, 2)
    assert all(LAG_S[0] <= blow.seconds <= LAG_S[1] for blow in promotions)
    assert all(blow.at_s + 2 * CLEAR_S < 60 for blow in promotions), "the sale goes on afterwards"
    for promotion in promotions:
        for blow in blows:
            if blow.kind in ("redis", "postgres") and blow is not promotion:
                back_s = blow.at_s + (blow.seconds if blow.action == "pause" else 0)
                assert back_s <= promotion.at_s or blow.at_s >= promotion.at_s + CLEAR_S


def test_the_seed_decides_how_often_when_and_how_far_it_lags() -> None:
    plans = [[blow for blow in draw_blows(60, seed) if blow.action == "promote"] for seed in range(40)]

    assert {len(plan) for plan in plans} == {1, 2}
    assert len({(blow.at_s, blow.seconds) for plan in plans for blow in plan}) == sum(map(len, plans))
    assert not [blow for blow in draw_blows(6, 1) if blow.action == "promote"]
    assert len([blow for blow in draw_blows(20, 1) if blow.action == "promote"]) == 1


class Patient(Child):
    """A component that lives until it is killed."""

    def start(self) -> None:
        self.spawn(["sleep", "60"])


def test_chaos_starts_again_what_it_kills_and_wakes_what_it_paused(tmp_path: Path) -> None:
    patients = [Patient(name, tmp_path / f"{name}.log") for name in ("api", "worker")]
    for patient in patients:
        patient.start()
    first = patients[0].pid
    said: list[str] = []
    chaos = Chaos(patients, [Blow(0.0, "api", "kill"), Blow(0.0, "worker", "pause", 60.0)], said.append)
    try:
        chaos.step()
        assert patients[1].paused
        while not chaos.calm():
            pass
        assert patients[0].alive
        assert patients[0].pid != first
        assert not patients[1].paused
        assert [deed.name for deed in chaos.deeds] == ["api", "worker"]
        assert all(deed.back_s is not None for deed in chaos.deeds)
        assert len(said) == 2
        assert chaos.surprises == []
    finally:
        for patient in patients:
            patient.stop()


class Understudy:
    """Notes what a standby is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def fall_behind(self) -> None:
        self.told.append("fall behind")

    def take_over(self) -> int:
        self.told.append("take over")
        return 7

    def stop(self) -> None:
        self.told.append("stop")


def test_no_store_is_hurt_while_a_standby_takes_over(tmp_path: Path) -> None:
    redis, standby = Patient("redis", tmp_path / "redis.log"), Understudy()
    redis.start()
    blows = [Blow(0.0, "redis", "pause", 0.1), Blow(0.0, "postgres", "promote", 0.1), Blow(0.65, "redis", "kill")]
    chaos = Chaos([redis], blows, lambda line: None, standby)
    try:
        chaos.step()
        assert standby.told == [], "Redis sleeps: a loss of PostgreSQL has to wait"
        end = time.monotonic() + 10
        while not chaos.commits_lost and time.monotonic() < end:
            chaos.step()
        assert standby.told == ["start", "fall behind", "take over"]
        while time.monotonic() < chaos.began + 1.2:
            chaos.step()
        assert [(deed.name, deed.action) for deed in chaos.deeds] == [("redis", "pause"), ("standby", "promote")]
        assert chaos.commits_lost == 7
    finally:
        redis.stop()


class Slow(Understudy):
    """Takes its time."""

    def start(self) -> None:
        super().start()
        time.sleep(0.5)


def test_what_came_due_while_a_standby_was_made_is_dealt_over_the_time_that_is_left() -> None:
    blows = [
        Blow(0.0, "postgres", "promote", 0.1),
        Blow(0.0, "api", "kill"),
        Blow(0.2, "api", "kill"),
        Blow(0.4, "api", "kill"),
        Blow(5.0, "api", "kill"),
    ]
    chaos = Chaos([], blows, lambda line: None, Slow())

    chaos.step()

    left = [blow.at_s for blow in chaos.blows]
    assert left == sorted(left)
    assert 0.5 <= left[0] < left[1] < left[2] < 1.5
    assert left[-1] == pytest.approx(5.0)


def test_a_promotion_that_has_begun_is_ended_before_it_is_calm(tmp_path: Path) -> None:
    standby = Understudy()
    chaos = Chaos([], [Blow(0.0, "postgres", "promote", 0.2)], lambda line: None, standby)

    chaos.step()
    assert not chaos.calm()
    while not chaos.calm():
        pass
    assert standby.told == ["start", "fall behind", "take over"]


def test_a_component_that_ends_by_itself_is_told_of(tmp_path: Path) -> None:
    patient = Patient("worker", tmp_path / "worker.log")
    patient.start()
    patient.kill()
    chaos = Chaos([patient], [], lambda line: None)
    try:
        while not chaos.calm():
            pass
        assert len(chaos.surprises) == 1
        assert "worker ended by itself (killed by SIGKILL)" in chaos.surprises[0]
    finally:
        patient.stop()


def test_a_key_in_doubt_was_not_refused_for_certain() -> None:
    history = History("shop")
    for key, doubt in (("a", False), ("b", True)):
        entry = history.open(key)
        entry.refused, entry.doubt = "sold-out", doubt

    assert [entry.key for entry in history.refused_digests().values()] == ["a"]
    assert history.outcomes() == {"refused": 2}


def test_quantiles() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(list(range(100)), 0.99) == 99
