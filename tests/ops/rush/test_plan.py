"""A seed decides who comes, who is killed, and when."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from boxoffice.sales.catalogue import EventView, TierView
from ops.rush.blows import AGE_S, KINDS, PUT_BACK_S, READ_ONLY_S, STORES, Blow, draw_blows
from ops.rush.chaos import Chaos
from ops.rush.history import History, quantile
from ops.rush.plan import CHANGING, DECLINING, GOOD_CARD, REFUND_TROUBLE, Workload, capacities, draw
from ops.rush.promotion import CLEAR_S, LAG_S
from ops.stack.processes import Child

PRICES = {"FRONT": 1_000, "FLOOR": 1_000, "STAND": 1_000, "GUEST": 0}
TIERS = tuple(TierView(code.lower(), code, code, price, 100, True) for code, price in PRICES.items())
EVENTS = [EventView("e1", "Rush", "2030-01-01T00:00:00Z", 1_893_456_000_000, "active", "USD", 0, 0, TIERS)]


def test_the_same_seed_draws_the_same_rush() -> None:
    workload = Workload(seconds=5, seed=7)

    assert list(draw(workload, EVENTS)) == list(draw(workload, EVENTS))
    assert list(draw(workload, EVENTS)) != list(draw(Workload(seconds=5, seed=8), EVENTS))
    assert draw_blows(60, 7) == draw_blows(60, 7)


@pytest.mark.parametrize("burst", [False, True])
def test_customers_come_at_the_rate_in_order_with_keys_of_their_own(burst: bool) -> None:
    visits = list(draw(Workload(seconds=10, rate=200, burst=burst), EVENTS))

    assert 1_700 < len(visits) < 2_300
    assert [visit.at_s for visit in visits] == sorted(visit.at_s for visit in visits)
    assert len({visit.key for visit in visits}) == len(visits)
    if burst:
        assert visits[len(visits) // 2].at_s < 2


def test_some_decline_some_buy_several_tiers_and_the_front_sells_out() -> None:
    workload = Workload(seconds=20, rate=200)
    visits = [visit for visit in draw(workload, EVENTS) if visit.manner not in ("browse", "bad")]

    declined = sum(visit.card in DECLINING for visit in visits) / len(visits)
    assert 0.06 < declined < 0.15
    assert {len(visit.items) for visit in visits} == {1, 2, 3}
    wanted: Counter[str] = Counter()
    for visit in visits:
        wanted.update(dict(visit.items))
    assert wanted["front"] > 5 * capacities(workload)["FRONT"]
    assert wanted["stand"] < capacities(workload)["STAND"]
    free = [visit for visit in visits if visit.free]
    assert 0.03 < len(free) / len(visits) < 0.1
    assert {b'"payment"' in visit.body for visit in free} == {True, False}
    assert {visit.payment_of("4242") for visit in free} == {b"{}"}
    assert any("guest" in dict(visit.items) and not visit.free for visit in visits)


def test_a_hold_is_changed_to_what_is_as_free_as_it_was() -> None:
    """Whoever pays for nothing gives no card, and has to have nothing to pay afterwards."""
    visits = [visit for visit in draw(Workload(seconds=60, rate=200, holds=True), EVENTS) if visit.other]
    assert {visit.manner for visit in visits} == {*CHANGING}
    assert {visit.free for visit in visits} == {True, False}
    assert all(visit.free == all(tier == "guest" for tier, _ in visit.other) for visit in visits)
    assert {len(visit.other) for visit in visits} == {1, 2}
    assert any({*dict(visit.other)} != {*dict(visit.items)} for visit in visits)
    assert json.loads(visits[0].change) == {
        "items": [{"tier_id": tier, "quantity": quantity} for tier, quantity in visits[0].other]
    }


def test_whoever_gives_back_may_meet_trouble_too() -> None:
    """Refused, pending and late-failing refunds, errors that are repeated, refunds of the dashboard, disputes."""
    visits = list(draw(Workload(seconds=60, rate=200, trouble=0.2, holds=True), EVENTS))

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
            if blow.kind in STORES and blow is not promotion:
                back_s = blow.at_s + (blow.seconds if blow.action == "pause" else 0)
                assert back_s <= promotion.at_s or blow.at_s >= promotion.at_s + CLEAR_S


def test_the_seed_decides_how_often_when_and_how_far_it_lags() -> None:
    plans = [[blow for blow in draw_blows(60, seed) if blow.action == "promote"] for seed in range(40)]

    assert {len(plan) for plan in plans} == {1, 2}
    assert len({(blow.at_s, blow.seconds) for plan in plans for blow in plan}) == sum(map(len, plans))
    assert not [blow for blow in draw_blows(6, 1) if blow.action == "promote"]


@pytest.mark.parametrize("seed", range(40))
def test_an_old_redis_is_put_back_once_while_nobody_else_hurts_a_store(seed: int) -> None:
    blows = draw_blows(60, seed)

    (old,) = (blow for blow in blows if blow.action == "put back")
    assert AGE_S[0] <= old.seconds <= AGE_S[1]
    assert old.at_s + PUT_BACK_S < 62, "the sale goes on afterwards"
    for blow in blows:
        if blow.kind in STORES and blow is not old:
            back_s = blow.at_s + (blow.seconds if blow.action in ("pause", "read-only") else 0)
            back_s += CLEAR_S if blow.action == "promote" else 0
            assert back_s <= old.at_s or blow.at_s >= old.at_s + PUT_BACK_S


@pytest.mark.parametrize("seed", range(40))
def test_postgresql_is_read_only_once_and_logs_take_nothing_in_either_way(seed: int) -> None:
    blows = draw_blows(60, seed)

    (read_only,) = (blow for blow in blows if blow.action == "read-only")
    assert READ_ONLY_S[0] <= read_only.seconds <= READ_ONLY_S[1]
    logs = [blow for blow in blows if blow.action == "bad logs"]
    assert {blow.which for blow in logs} == {0, 1}
    assert max(blow.at_s for blow in (read_only, *logs)) < 60 * 0.85


def test_the_seed_decides_which_store_goes_back_in_a_short_rush() -> None:
    plans = [{blow.action for blow in draw_blows(15, seed)} - {"kill", "pause", "read-only"} for seed in range(40)]

    assert {tuple(sorted(plan)) for plan in plans} == {("bad logs", "promote"), ("bad logs", "put back")}
    assert {blow.action for blow in draw_blows(9, 1)} == {"kill", "pause"}


class Patient(Child):
    """A component that lives until it is killed."""

    def start(self) -> None:
        self.spawn(["sleep", "60"])


def step_until(chaos: Chaos, true: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end
        chaos.step()


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
        self.calls: list[str] = []
        self.ready = True
        self.written = True

    def prepare(self) -> None:
        self.calls.append("prepare")

    def streams(self) -> bool:
        return self.ready

    def fall_behind(self) -> None:
        self.calls.append("fall behind")

    def lacks(self) -> bool:
        return self.written

    def take_over(self) -> int:
        self.calls.append("take over")
        return 7

    def stop(self) -> None:
        self.calls.append("stop")


def test_no_store_is_hurt_while_a_standby_takes_over(tmp_path: Path) -> None:
    redis, standby = Patient("redis", tmp_path / "redis.log"), Understudy()
    redis.start()
    blows = [Blow(0.0, "redis", "pause", 0.1), Blow(0.0, "postgres", "promote", 0.1), Blow(0.65, "redis", "kill")]
    chaos = Chaos([redis], blows, lambda line: None, standby)
    try:
        chaos.step()
        assert standby.calls == [], "Redis sleeps: a loss of PostgreSQL has to wait"
        end = time.monotonic() + 30
        while not chaos.commits_lost and time.monotonic() < end:
            chaos.step()
        assert standby.calls == ["prepare", "fall behind", "take over"]
        while time.monotonic() < chaos.began + 1.2:
            chaos.step()
        assert [(deed.name, deed.action) for deed in chaos.deeds] == [("redis", "pause"), ("standby", "promote")]
        assert chaos.commits_lost == 7
    finally:
        redis.stop()


def test_who_dies_while_a_standby_is_made_is_looked_after(tmp_path: Path) -> None:
    """Making one takes seconds, and holds nobody up."""
    api, standby = Patient("api", tmp_path / "api.log"), Understudy()
    api.start()
    first, standby.ready = api.pid, False
    chaos = Chaos([api], [Blow(0.0, "postgres", "promote", 0.1), Blow(0.1, "api", "kill")], lambda line: None, standby)
    try:
        step_until(chaos, lambda: api.alive and api.pid != first)
        assert standby.calls == ["prepare"]
        standby.ready = True
        step_until(chaos, lambda: chaos.commits_lost == 7)
        assert standby.calls == ["prepare", "fall behind", "take over"]
    finally:
        api.stop()


def test_a_standby_that_lacks_nothing_lags_on_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promoted, it would prove nothing. When nobody writes at all it is promoted in the end."""
    standby = Understudy()
    standby.written = False
    chaos = Chaos([], [Blow(0.0, "postgres", "promote", 0.1)], lambda line: None, standby)

    while time.monotonic() < chaos.began + 1.0:
        chaos.step()
    assert standby.calls == ["prepare", "fall behind"]
    standby.written = True
    step_until(chaos, lambda: chaos.commits_lost == 7)
    assert chaos.deeds[0].lag_s > 0.5

    monkeypatch.setattr("ops.rush.promotion.COMMITS_S", 0.5)
    standby.written = False
    chaos = Chaos([], [Blow(0.0, "postgres", "promote", 0.1)], lambda line: None, standby)
    step_until(chaos, lambda: chaos.commits_lost == 7)


def test_a_standby_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    class Failing(Understudy):
        def streams(self) -> bool:
            raise CannotRun("no room")

    standby = Failing()
    chaos = Chaos([], [Blow(0.0, "postgres", "promote", 0.1)], lambda line: None, standby)

    step_until(chaos, lambda: bool(chaos.surprises))

    assert standby.calls == ["prepare", "stop"]
    assert chaos.calm()


class Slow(Understudy):
    """Half a second goes by until it has taken over."""

    chaos: Chaos

    def take_over(self) -> int:
        self.chaos.began -= 0.5
        return super().take_over()


def test_what_came_due_while_a_standby_took_over_is_dealt_over_the_time_that_is_left() -> None:
    blows = [Blow(0.0, "postgres", "promote", 0.0), *(Blow(at_s, "redis", "kill") for at_s in (3.5, 3.7, 5.0))]
    slow = Slow()
    chaos = slow.chaos = Chaos([], blows, lambda line: None, slow)

    step_until(chaos, lambda: chaos.commits_lost == 7)

    left = [blow.at_s for blow in chaos.blows]
    assert left == sorted(left)
    assert 3.6 < left[0] < left[1] < 5.0
    assert left[-1] == pytest.approx(5.0)


def test_a_promotion_that_has_begun_is_ended_before_it_is_calm(tmp_path: Path) -> None:
    standby = Understudy()
    chaos = Chaos([], [Blow(0.0, "postgres", "promote", 0.2)], lambda line: None, standby)

    chaos.step()
    assert not chaos.calm()
    while not chaos.calm():
        pass
    assert standby.calls == ["prepare", "fall behind", "take over"]


class Past:
    """Notes what a copy is told; nothing is quiet until it says so."""

    def __init__(self, apis: list[Patient]) -> None:
        self.calls: list[str] = []
        self.silent = False
        self._apis = apis

    def take(self) -> None:
        assert not any(api.paused for api in self._apis), "it is of a server that is asked"
        self.calls.append("take")

    def quiet(self) -> bool:
        assert all(api.paused for api in self._apis)
        return self.silent

    def put_back(self, resume: Callable[[], None]) -> int:
        self.calls.append("put back")
        resume()
        assert not any(api.paused for api in self._apis), "they knock while there is nobody"
        return 3


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[list[Patient]]:
    apis = [Patient(name, tmp_path / f"{name}.log") for name in ("api", "api-2")]
    for api in apis:
        api.start()
    yield apis
    for api in apis:
        api.stop()


def test_nobody_sells_before_an_old_redis_is_put_back(apis: list[Patient]) -> None:
    """Until all that was accepted is in PostgreSQL; nor does one that is killed come back to sell meanwhile."""
    past, first = Past(apis), apis[0].pid
    blows = [Blow(0.0, "redis", "put back", 0.3), Blow(0.4, "api", "kill"), Blow(0.4, "redis", "kill")]
    chaos = Chaos(apis, blows, lambda line: None, old=past)

    step_until(chaos, lambda: all(api.paused for api in apis))
    assert time.monotonic() >= chaos.began + 0.3, "it grows old first"
    while time.monotonic() < chaos.began + 1.0:
        chaos.step()
    assert past.calls == ["take"]
    assert (apis[0].pid, len(chaos.blows)) == (first, 2)

    past.silent = True
    step_until(chaos, lambda: past.calls == ["take", "put back"])
    (deed,) = chaos.deeds
    assert (deed.name, deed.action, deed.lost) == ("copy", "put back", 3)
    assert deed.lag_s >= 1.0
    assert chaos.surprises == []


def test_a_copy_that_has_no_moment_is_given_up_and_told_of(
    apis: list[Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.rush.old_copy.PATIENCE_S", 0.2)
    past = Past(apis)
    chaos = Chaos(apis, [Blow(0.0, "redis", "put back", 0.1)], lambda line: None, old=past)
    chaos.step()

    step_until(chaos, chaos.calm)

    assert past.calls == ["take"]
    assert not any(api.paused for api in apis)
    assert len(chaos.surprises) == 1
    assert chaos.deeds == []


class Refusing:
    """Notes what PostgreSQL is told; it hears of the end at the second time."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> bool:
        self.calls.append("begin")
        return True

    def end(self) -> bool:
        self.calls.append("end")
        return self.calls.count("end") == 2


def test_postgresql_is_read_only_until_it_is_not() -> None:
    refusing = Refusing()
    blows = [Blow(0.0, "postgres", "read-only", 0.3), Blow(0.1, "postgres", "promote", 0.1)]
    standby = Understudy()
    chaos = Chaos([], blows, lambda line: None, standby, read_only=refusing)

    chaos.step()
    assert refusing.calls == ["begin"]
    while time.monotonic() < chaos.began + 0.25:
        chaos.step()
    assert (refusing.calls, standby.calls) == (["begin"], []), "a standby would be read-only for ever"
    step_until(chaos, lambda: refusing.calls == ["begin", "end", "end"])
    (deed,) = chaos.deeds
    assert deed.back_s is not None
    assert deed.back_s >= 0.3
    step_until(chaos, lambda: standby.calls == ["prepare", "fall behind", "take over"])
    assert refusing.calls == ["begin", "end", "end"]


def test_what_a_rush_has_once_comes_before_its_audit() -> None:
    """Under load, or after something else that took long, it may have had no moment before."""
    standby, refusing = Understudy(), Refusing()
    blows = [
        Blow(50.0, "postgres", "promote", 0.0),
        Blow(51.0, "postgres", "read-only", 0.1),
        Blow(52.0, "api", "kill"),
    ]
    chaos = Chaos([], blows, lambda line: None, standby, read_only=refusing)

    step_until(chaos, chaos.calm)

    assert standby.calls == ["prepare", "fall behind", "take over"]
    assert refusing.calls == ["begin", "end", "end"]


@pytest.mark.parametrize("how", ["at its end", "when it is broken off"])
def test_no_postgresql_stays_read_only_after_a_rush(how: str) -> None:
    refusing = Refusing()
    chaos = Chaos([], [Blow(0.0, "postgres", "read-only", 60.0)], lambda line: None, read_only=refusing)
    chaos.step()

    if how == "at its end":
        assert not chaos.calm()
        assert chaos.calm()
        assert refusing.calls == ["begin", "end", "end"]
    else:
        chaos.make_amends()
        assert refusing.calls == ["begin", "end"]


class Talker(Patient):
    """Says something, and how it went, in a file beside its log."""

    def start(self) -> None:
        self.spawn([sys.executable, "-c", TALK, str(self.log.with_suffix(".went"))])

    def went(self) -> str:
        path = self.log.with_suffix(".went")
        return path.read_text() if path.exists() else ""


TALK = """
import os, signal, sys
try:
    os.write(1, b"something")
    went = "fine"
except OSError as error:
    went = type(error).__name__ + str(error.errno)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(went)
os.replace(sys.argv[1] + ".new", sys.argv[1])
signal.pause()
"""


@pytest.mark.parametrize(
    ("way", "name", "said"), [(0, "full disk", "OSError28"), (1, "dead reader", "BrokenPipeError32")]
)
def test_logs_take_nothing_from_who_starts_then_and_everything_from_who_starts_later(
    tmp_path: Path, way: int, name: str, said: str
) -> None:
    talkers = [Talker(name, tmp_path / f"{name}.log") for name in ("api", "worker", "worker-2", "redis")]
    chaos = Chaos(talkers, [Blow(0.0, "logs", "bad logs", 1.0, way), Blow(1.2, "worker", "kill")], lambda line: None)
    try:
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.wait_until(lambda talker=talker: talker.went() == "fine", 30)
        chaos.begin()
        step_until(chaos, lambda: {talker.went() for talker in talkers[:3]} == {said})
        assert talkers[3].went() == "fine"
        assert [(deed.name, deed.action) for deed in chaos.deeds] == [("logs", name)]
        step_until(chaos, lambda: talkers[1].went() == "fine")
        assert talkers[2].went() == said, "until it is started again"
        assert chaos.surprises == []
    finally:
        for talker in talkers:
            talker.stop()


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
