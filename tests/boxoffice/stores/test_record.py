"""A booking's record: what is packed is read again, and the scripts read the same head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxoffice import ids
from boxoffice.gateway.simulator.scenario import reference_of
from boxoffice.stores.record import (
    Attempt,
    Body,
    Charge,
    Line,
    Outcome,
    Payload,
    Record,
    confirmed,
    earlier_after,
    items_of,
    key_after,
    pack_items,
    pack_rest,
    payment_key_of,
    unpack,
)
from tests.conftest import SHARD

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
lines = st.lists(
    st.builds(Line, st.text("abcdefgh01234567", min_size=12, max_size=12), st.integers(1, 10), st.integers(0, 2**31)),
    min_size=1, max_size=10, unique_by=lambda line: line.tier,
).map(tuple)  # fmt: skip


def body_of(lines: tuple[Line, ...], client: str = "c", customer: str = "u", currency: str = "USD",
            reference: str | None = None, metadata: dict[str, str] | None = None,
            return_url: str | None = None, access_code: str | None = None) -> Body:  # fmt: skip
    amount = sum(line.quantity * line.unit_price_cents for line in lines)
    return Body(client, customer, amount, currency, lines, reference, metadata, return_url, access_code)


words = st.none() | st.dictionaries(texts, texts, min_size=1, max_size=3)
codes = st.sampled_from([None, "c0de" * 8])
bodies = st.builds(body_of, lines, texts, texts, texts, st.none() | texts, words, st.none() | texts, codes)
payloads = st.builds(
    Payload,
    st.none() | st.builds(Charge, texts, texts, st.none() | texts, st.none() | texts),
    st.none() | st.builds(Outcome, texts, texts, st.none() | texts),
    st.none() | texts,
    st.just("") | st.text("0123456789abcdef", min_size=32, max_size=32),
)


def record(body: Body, payload: Payload, *, state: str = "P") -> Record:
    scope = ids.digest("scope")
    return Record(ids.booking_id(3, 1), state, 7, 1_700_000_000_000, 0, scope, scope, ids.digest("f"), "event0000000",
                  ids.owner_digest("c", "u"), pack_items(body.lines), "1", body, payload)  # fmt: skip


@given(bodies, payloads)
def test_what_is_packed_is_read_again(body: Body, payload: Payload) -> None:
    """Whatever customers and references hold: the three lines never mix."""
    whole = record(body, payload)
    packed = whole.pack()

    assert packed.count(b"\n") == 2
    assert unpack(whole.id, packed) == whole


@given(bodies, payloads)
def test_a_new_record_is_the_rest_behind_its_deadline(body: Body, payload: Payload) -> None:
    """admit.lua puts state, place, time and deadline in front of what Python packed."""
    whole = record(body, payload)
    rest = pack_rest(
        payment_key=whole.payment_key, scope=whole.scope, fingerprint=whole.fingerprint, event=whole.event,
        owner=whole.owner, items=whole.items, body=body, payload=payload,
    )  # fmt: skip

    assert b"P|7|1700000000000|0|" + rest == whole.pack()


@pytest.mark.parametrize("raw", [b"", b"x", b"a\nb\nc", b"P|1|2|3|k|s|f|e|o|t:1|1\n{}\n{}", b"P|x|2|3|k|s|f|e|o|t:1|1\n{}\n{}",
                                 b"\xff\n\n"])  # fmt: skip
def test_what_is_no_record_is_a_value_error(raw: bytes) -> None:
    """Such a booking is parked, so everything that can be wrong is one kind of error."""
    with pytest.raises(ValueError):
        unpack(ids.booking_id(SHARD, 1), raw)


def test_the_payment_key_is_read_even_when_the_rest_is_not() -> None:
    """settle.lua parks an unreadable booking under the payment key that its head has."""
    whole = record(body_of((Line("t", 1, 1),)), Payload())

    assert payment_key_of(whole.pack().partition(b"\n")[0] + b"\n{garbage") == whole.payment_key
    assert payment_key_of(b"") == payment_key_of(b"garbage") == ""
    assert items_of(whole.pack().partition(b"\n")[0] + b"\n{garbage|") == whole.items
    assert items_of(b"") == items_of(b"garbage") == ""


def test_a_records_repr_is_not_needed_to_count_attempts() -> None:
    """How often a payment was tried, and what else its last field says."""
    whole = record(body_of((Line("t", 1, 1),)), Payload())
    whole.tries = "2e"

    assert (whole.attempts, whole.extended) == (2, True)


def test_a_payment_key_that_is_the_scope_stands_there_once() -> None:
    """And is read as if it stood there twice, by Python as by the scripts."""
    whole = record(body_of((Line("t", 1, 1),)), Payload())
    packed = whole.pack()

    assert packed.count(whole.scope.encode()) == 1
    assert payment_key_of(packed) == unpack(whole.id, packed).payment_key == whole.scope


@pytest.mark.parametrize(("state", "digits"), [("P", 32), ("H", 32), ("E", 32), ("C", 22), ("F", 22), ("X", 22)])
def test_a_record_keeps_its_key_whatever_becomes_of_it(state: str, digits: int) -> None:
    """While it may still be settled (an expired hold too: late success revives it), to be looked up; afterwards, shorter,
    to be written again should PostgreSQL forget it."""
    key = ids.digest("key")
    whole = record(body_of((Line("t", 1, 1),)), Payload(key=key), state=state)

    assert len(key_after(state, key)) == digits
    assert unpack(whole.id, whole.pack()).payload.key == key


def test_a_settled_record_takes_little_memory() -> None:
    """With 4 bytes for its length and end it fits an allocation of 248 bytes, whatever the sequence's digits: the
    settled booking of `make bench` is held to 550 bytes with everything that it adds."""
    lines = (Line("abcdefghjkmn", 1, 2_500),)
    key = ids.digest("key")
    scope = ids.scope("shop00000000", "concert00000", key)
    claimed = record(body_of(lines), Payload(Charge("card", "tok_ok_4242", None, "4242")))
    charge = unpack(claimed.id, claimed.pack()).payload.charge
    assert charge is not None
    outcome = Outcome("authorized", charge.method, charge.last4, reference_of(scope))
    settled = Record(
        ids.booking_id(SHARD, 1), "C", 9_999_999, 1_700_000_000_000, 0, scope, scope,
        ids.fingerprint("c1000000000", pack_items(lines), "card", "4242"), "concert00000",
        ids.owner_digest("shop00000000", "c1000000000"), pack_items(lines), "1",
        body_of(lines, "shop00000000", "c1000000000"), Payload(None, outcome, key=key_after("C", key)),
    )  # fmt: skip

    assert len(settled.pack()) <= 244


@pytest.mark.parametrize("flag", ["extended", "cancel_requested", "revived", "given_back", "refunded"])
def test_each_flag_is_its_own_letter(flag: str) -> None:
    """Whatever stands beside it; the number before them is of payments that were tried."""
    letters = {"extended": "e", "cancel_requested": "x", "revived": "r", "given_back": "b", "refunded": "g"}
    whole = record(body_of((Line("t", 1, 1),)), Payload())
    for tries, attempts in (("", 0), ("0", 0), ("12", 12)):
        for others in ("", "".join(letters.values())):
            said = others.replace(letters[flag], "")
            whole.tries = tries + said
            assert (getattr(whole, flag), whole.attempts) == (False, attempts)
            whole.tries = tries + said + letters[flag]
            assert (getattr(whole, flag), whole.attempts) == (True, attempts)


@pytest.mark.parametrize(("status", "there"), [("requires_action", True), ("unknown", False), ("authorized", False)])
def test_who_was_at_the_bank(status: str, there: bool) -> None:
    assert record(body_of((Line("t", 1, 1),)), Payload(outcome=Outcome(status))).at_bank is there
    assert record(body_of((Line("t", 1, 1),)), Payload()).at_bank is False


@pytest.mark.parametrize("state", list("PHCFXE"))
def test_what_a_record_of_each_state_keeps(state: str) -> None:
    """Its owner, as long as somebody may count it; its earlier attempts, as long as it may be paid; an expired hold may be
    revived."""
    over = state in "CFX"
    whole = record(body_of((Line("t", 1, 1),)), Payload(key="ab" * 16), state=state)
    kept = unpack(whole.id, whole.pack())
    assert kept.owner == ("" if over else whole.owner)
    attempts = (Attempt("k", "f", Outcome("declined")),)
    assert earlier_after(state, attempts) == (() if over else attempts)
    assert len(key_after(state, "ab" * 16)) == (22 if over else 32)
    assert key_after(state, "short") == "short"


@pytest.mark.parametrize(
    ("payment_key", "packed", "tries"), [("", b"|s|", b"|0\n"), ("s", b"=|s|", b"|1\n"), ("p", b"p|s|", b"|1\n")]
)
def test_a_new_record_says_whether_it_is_paid(payment_key: str, packed: bytes, tries: bytes) -> None:
    """A hold has tried nothing; who posts a payment has tried one."""
    body = body_of((Line("t", 1, 100),))
    rest = pack_rest(
        payment_key=payment_key, scope="s", fingerprint="f", event="e", owner="o", items="t:1", body=body, payload=Payload()
    )  # fmt: skip
    assert rest == packed + b"f|e|o|t:1" + tries + b'["c","u","USD",[100]]\n{}'
    assert payment_key_of(b"P|1|2|3|" + rest) == (payment_key or "")


def test_a_record_that_is_sold_loses_its_owner_and_its_card() -> None:
    """As settle.lua leaves it: nothing else of it changes."""
    whole = record(
        body_of((Line("t", 2, 100),), reference="r"), Payload(Charge("card", "tok", None, "4242"), key="ab" * 16)
    )
    sold = unpack(
        whole.id, confirmed(whole.pack(), Payload(outcome=Outcome("authorized"), key=key_after("C", "ab" * 16)))
    )
    assert (sold.state, sold.owner, sold.payload.charge) == ("C", "", None)
    assert sold.payload == Payload(outcome=Outcome("authorized"), key="ab" * 16)
    assert (sold.scope, sold.payment_key, sold.items, sold.body, sold.tries, sold.sequence, sold.admitted_ms) == (
        whole.scope, whole.payment_key, whole.items, whole.body, whole.tries, whole.sequence, whole.admitted_ms,
    )  # fmt: skip


def test_the_bytes_that_stay_in_redis_are_these() -> None:
    """A process of the version before reads them, and the scripts do: only new members may be added, with defaults."""
    body = body_of((Line("tier00000001", 2, 1_500), Line("tier00000002", 1, 0)), "shop", "ada", "EUR", "order 7")
    outcome = Outcome("declined", "card", "0002", "pay_1", "card_declined", "https://bank.example")
    payload = Payload(
        Charge("card", "tok_ok", "Ada", "4242"), outcome, "declined", "ab" * 16, "asked",
        (Attempt("key1", "asked1", Outcome("declined", failure_code="expired_card")), Attempt("key2", "", Outcome())),
    )  # fmt: skip
    kept = Record(
        "01a2289d-1441-7000-936f-ca3c86615eea", "H", 7, 1_700_000_000_000, 1_700_000_600_000, "pay", "scope", "print",
        "event0000000", "owner", pack_items(body.lines), "2e", body, payload,
    )  # fmt: skip
    raw = (
        b"H|7|1700000000000|1700000600000|pay|scope|print|event0000000|owner|tier00000001:2,tier00000002:1|2e\n"
        b'["shop","ada","EUR",[1500,0],"order 7"]\n'
        b'{"p":{"m":"card","t":"tok_ok","n":"Ada","l":"4242"},'
        b'"o":{"s":"declined","l":"0002","r":"pay_1","f":"card_declined","n":"https://bank.example"},"f":"declined",'
        b'"k":"abababababababababababababababab","h":"asked",'
        b'"e":[["key1","asked1",{"s":"declined","f":"expired_card"}],["key2","",{}]]}'
    )
    assert kept.pack() == raw
    assert unpack(kept.id, raw) == kept
    assert body.amount_cents == 3_000
