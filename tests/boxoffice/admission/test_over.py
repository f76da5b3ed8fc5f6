"""Who is remembered to be over a limit, for how long, and what makes it forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice import ids
from boxoffice.access.rates import Allowance
from boxoffice.admission import over as module
from boxoffice.admission.forms import answers_of, views_of
from boxoffice.admission.over import CHECKED_EACH_S, Over
from boxoffice.admission.protocol import Reply
from boxoffice.errors import RateLimited
from tests.boxoffice.admission.test_calls import form
from tests.conftest import SHARD

NOW_MS, LEFT_S, WINDOW_S = 1_000_000, 7.5, 60
KEY, CUSTOMER = b"key", b"customer"
MAY = Allowance("greedy", 9, 3, WINDOW_S)


def say(
    over: Over, *results: Any, sent_s: float = 100.0, took_s: float = 0.0, by: Allowance = MAY, who: str = "ada"
) -> None:
    """The script's words to bookings of one customer; `KEY` and `CUSTOMER` are refusals, which end in `LEFT_S`."""
    ends = b"%d" % (NOW_MS + int(1_000 * LEFT_S))
    came = [[b"rate_limited", each, 9, ends] if each in (KEY, CUSTOMER) else each for each in results]
    forms = [form("x") for _ in came]
    for each in forms:
        each.template.allowance, each.owner = by, ids.owner_digest("shop", who)
    reply = Reply(NOW_MS, came, [[5, 5]], 0, 0, {})
    answers = answers_of(forms, views_of(forms), reply, {}, lambda: None, lambda: 100.0)
    over.note(SHARD, forms, reply, answers, sent_s, sent_s + took_s)


def ask(over: Over, now: float, who: str = "ada", by: Allowance = MAY, shard: int = SHARD) -> RateLimited | None:
    return over.refusal(shard, "shop", who, by, now)


def limit(error: RateLimited | None) -> Any:
    return error and (error.details["whose"], error.details["limit"], error.details["retry_after_s"])


@pytest.mark.parametrize(("word", "whose", "most"), [(KEY, "key", 9), (CUSTOMER, "customer", 3)])
def test_who_was_refused_is_refused_until_the_window_ends(word: bytes, whose: str, most: int) -> None:
    """Not a moment longer, by the earliest time at which it may have ended; whoever is told to wait waits until the latest."""
    over = Over()
    say(over, word, sent_s=100.0, took_s=0.2)
    assert limit(ask(over, 100.3)) == (whose, most, 8)
    assert limit(ask(over, 100.7)) is None, "the script is asked"
    assert limit(ask(over, 100.71)) == (whose, most, 7)
    ask(over, 107.4)
    assert limit(ask(over, 107.4999)) == (whose, most, 1)
    assert ask(over, 107.5) is None and over.until_s == 0


@pytest.mark.parametrize("word", [KEY, CUSTOMER])
def test_the_script_is_asked_again_of_whoever_is_remembered(word: bytes) -> None:
    """One booking each quarter of a second. One that is let in ends it, as when counts were lost; a repeat does not."""
    over = Over()
    say(over, word)
    asked = [ask(over, 100.0 + n / 100) is None for n in range(100)]
    assert asked.count(True) == 3 and asked[int(100 * CHECKED_EACH_S)]
    say(over, [b"replayed", b"first", b"nonsense"], sent_s=101.0)
    assert ask(over, 101.01) is None and ask(over, 101.02) is not None
    say(over, b"created", sent_s=101.1)
    assert ask(over, 101.2) is None


def test_one_check_is_one_call_of_the_script() -> None:
    """When it is time to ask of the key, the booking goes to the script, though its customer is over a limit, too."""
    over = Over()
    say(over, CUSTOMER, sent_s=100.2)
    say(over, KEY, sent_s=100.0)
    found = [limit(ask(over, 100.0 + n / 100)) for n in range(40)]
    assert found[24] == ("key", 9, 8) and found[25] is None
    assert {each and each[0] for each in found[26:]} == {"key"}


def test_others_are_not_refused() -> None:
    """Another customer of the shop, another key, another limit of the same key, another shard."""
    over = Over()
    say(over, CUSTOMER)
    assert ask(over, 100.1) and not ask(over, 100.1, who="bob") and not ask(over, 100.1, shard=0)
    assert not ask(over, 100.1, by=Allowance("greedy", 9, 4, WINDOW_S)), "customers may ask more often by now"
    say(over, KEY)
    assert ask(over, 100.1, who="bob") and not ask(over, 100.1, who="bob", by=Allowance("other", 9, 3, WINDOW_S))
    assert not ask(over, 100.1, who="bob", by=Allowance("greedy", 10, 3, WINDOW_S)), "its limit was raised"
    assert over.has_key(SHARD, MAY, 107.4) and not over.has_key(SHARD, MAY, 107.5) and not over.has_key(0, MAY, 100.1)


def test_a_newcomer_that_is_let_in_says_nothing_of_its_customer() -> None:
    """Nobody has counted it."""
    over = Over()
    say(over, CUSTOMER)
    newcomer = form("x")
    newcomer.template.allowance, newcomer.owner = MAY, ids.owner_digest("shop", "ada")
    newcomer.newcomer = newcomer.owner
    over.note(SHARD, [newcomer], Reply(NOW_MS, [b"created"], [[5, 5]], 0, 0, {}), [None], 100.0, 100.0)
    assert ask(over, 100.1)


def test_who_is_refused_alike_shares_an_error() -> None:
    """For as long as it says the same, and nobody's else."""
    over = Over()
    say(over, KEY)
    assert ask(over, 100.1) is ask(over, 100.2, who="bob")
    ask(over, 102)
    assert limit(ask(over, 102.01)) == ("key", 9, 6)


@pytest.mark.parametrize("word", [KEY, CUSTOMER])
def test_the_memory_is_bounded(word: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are forgotten at once; the script says it again of who comes again."""
    monkeypatch.setattr(module, "OVER_MAX", 2)
    over = Over()
    for n in range(3):
        say(over, word, by=Allowance(f"key{n}", 9, 3, WINDOW_S), who=f"c{n}")
    say(over, word, by=Allowance("key2", 9, 3, WINDOW_S), who="c2")
    found = [ask(over, 100.1, by=Allowance(f"key{n}", 9, 3, WINDOW_S), who=f"c{n}") for n in range(3)]
    assert [each is not None for each in found] == [False, False, True]
