"""Card numbers are found, however they are written; other long numbers are let be."""

from __future__ import annotations

import random
import sys
import uuid
from types import FrameType

import pytest

from boxoffice.gateway.simulator.cards import CARDS
from boxoffice.ids import booking_id
from boxoffice.telemetry import redaction
from boxoffice.telemetry.redaction import has_card_number, is_card_number, mask_card_numbers

CARD = "4242424242424242"
FOURS = ["4242"] * 4


@pytest.mark.parametrize(
    "number",
    [
        CARD, "5555555555554444", "5105105105105100", "2223003122003222", "378282246310005", "371449635398431",
        "6011111111111117", "6011000990139424", "3056930009020004", "36227206271667", "30569309025904",
        "6555900000604105", "3566002020360505", "6200000000000005", "6205500000000000004", "4222222222222",
        "6304000000000000", "2201382000000013", "6759649826438453", *(card.number for card in CARDS),
    ],
)  # fmt: skip
def test_numbers_of_every_network(number: str) -> None:
    assert is_card_number(number)
    assert has_card_number(number)


@pytest.mark.parametrize(
    "text",
    [
        *(separator.join(FOURS) for separator in (" ", "-", ".", "_", "/", "–", "—", "\u00a0", "\u2009", ":", "*", " - ", "|")),
        *(separator.join(FOURS) for separator in ("x", "X", "a", "х", " x ", "-x-")),
        "4242a4242b4242c4242", "4242 4242-4242_4242",
        *(invisible.join(CARD) for invisible in ("\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u0301", "\u3164")),
        "4 2 4 2 4 2 4 2 4 2 4 2 4 2 4 2", "42 42 42 42 42 42 42 42", "42424242 42424242",
        "3782 822463 10005", "3782-822463-10005", "3782x822463x10005", "3056 930902 5904", "3056/930902/5904",
        CARD + "x", "x" + CARD, "cust" + CARD, CARD + "abc", "é" + CARD, "客" + CARD, "ref" + CARD + "ref",
        f"to {CARD}.", f"({CARD})", f"pay {' '.join(FOURS)} now", f"{' '.join(FOURS)} 12/30 123", f"12/30 {' '.join(FOURS)}",
        f"order 77 card {'-'.join(FOURS)}", "1111a4242b4242c4242d4242",
        "".join(chr(0x0660 + int(digit)) for digit in CARD),
        "".join(chr(0x06F0 + int(digit)) for digit in CARD),
        "".join(chr(0x0966 + int(digit)) for digit in CARD),
        "".join(chr(0xFF10 + int(digit)) for digit in CARD),
        "".join(chr(0x1D7CE + int(digit)) for digit in CARD),
        "⁴²" * 8, "④②" * 8, "㊷" * 8, "❹❷" * 8, "➃➁" * 8, "➍➋" * 8, "⓸⓶" * 8, "⒋⒉" * 8, "⑷⑵" * 8,
        "四二" * 8, "4\ufe0f\u20e3" + CARD[1:],
        *(separator.join(FOURS) for separator in ("\u202f", "\u3000", "\u2028", "·", "٬", "、", "，", "%20", "%2D", "%2520",
                                                  "&nbsp;", "&#32;", "<br/>", r"\xa0", r"\u2009", r"\n", r"\\n", "%C2%A0")),
        "%34%32" * 8, "&#52;&#50;" * 8, r"\u0034\u0032" * 8, f"100%{CARD}", f"to=%20{CARD}%21", f"%B{CARD}^LOVELACE/ADA^3012",
        f";{CARD}=3012101?", f"{CARD}=301210100", "3782%20822463%2010005", "3056%20930902%205904",
        " ".join("".join(chr(0x0660 + int(digit)) for digit in group) for group in FOURS),
    ],
)  # fmt: skip
def test_a_card_number_is_found(text: str) -> None:
    assert has_card_number(text)
    masked = mask_card_numbers(text)
    assert not has_card_number(masked)
    assert "4242]" in masked or "0005]" in masked or "5904]" in masked


@pytest.mark.parametrize(
    "text",
    [
        "", "Ada", "4242424242424241", "424242424242", "+1 555 0100", "2026-11-22T20:00:00Z", f"{CARD}0000",
        "12345678-1234-4234-8234-123456789012", "00000000-0000-4000-8000-000000000000", "ORD-2026-0000-0000-0018",
        "820982911946154508", "1748503543012", "1748503543020", "1748503543000000", "1748503543123456789",
        "175928847299117063", "20261122200000", "2026-11-22 20:00:00.000", "1234567890123452", "9999999999999995",
        "%20" * 20, "%3D%3D2026%2D11%2D22%2020%3A00%3A00", "DE89370400440532013000", "9783161484100",
        "01HZX3K5QWERTY12345678ABCD",
        "4242 ab 4242 cd 4242 ef 4242", "4242-at-4242-at-4242-at-4242",
        "192.168.100.200 192.168.100.201", "1Z999AA10123456784", r"\x00\x01\x02\x03\x04\x05\x06\x07",
        "二〇二六年十一月二十二日",
        "&#1234;&#5678;&#9012;&#3456;", "0000000000000000", "0000-0000-0000-0000", "7992739871300000", "order-1748503543012-7",
    ],
)  # fmt: skip
def test_other_texts_are_let_be(text: str) -> None:
    assert not has_card_number(text)
    assert mask_card_numbers(text) == text


NETWORKS = {
    # first and last prefix: how many digits
    "4": (13, 16, 19), "51 55": (16,), "2221 2720": (16,), "34": (15,), "37": (15,), "300 305": (14, 16, 19),
    "309": (14, 16, 19), "36": (14, 16, 19), "38 39": (14, 16, 19), "6011": range(16, 20), "644 649": range(16, 20),
    "65": range(16, 20), "3528 3589": range(16, 20), "62": range(16, 20), "2200 2204": range(16, 20), "5018": range(13, 20),
    "5020": range(13, 20), "5038": range(13, 20), "5893": range(13, 20), "6304": range(13, 20), "6759": range(13, 20),
    "6761 6763": range(13, 20), "5019": (16,), "508": (16,), "60": (16,), "81 82": (16,), "506 507": (16, 18, 19),
    "509": (16,), "636": range(16, 20), "2205": (16,), "9792": (16,), "9704": (16, 19), "8600": (16,), "9860": (16,),
}  # fmt: skip
NOBODYS = ("0", "1", "2199", "2206", "2220", "2721", "306", "308", "310", "33", "3527", "3590", "500", "5017", "5021", "5037",
           "5039", "56", "5892", "5894", "61", "6303", "6305", "635", "637", "643", "66", "6758", "6760", "6764", "7", "80",
           "83", "8599", "8601", "9703", "9705", "9791", "9793", "9859", "9861")  # fmt: skip


def number_of(prefix: str, length: int) -> str:
    """So many digits with this prefix, the last the check digit."""
    digits = (prefix + "0713" * 5)[: length - 1]
    doubled = [int(digit) * (2 - at % 2) for at, digit in enumerate(reversed(digits))]
    return f"{digits}{-sum(number // 10 + number % 10 for number in doubled) % 10}"


@pytest.mark.parametrize("length", range(12, 21))
def test_a_number_is_a_card_by_prefix_and_length(length: int) -> None:
    """The first and the last prefix of each network, those beside them, and every length from one too short to one too
    long: alone, in a sentence, and without its check digit."""
    for network, lengths in NETWORKS.items():
        for prefix in network.split():
            number, expected = number_of(prefix, length), length in lengths
            assert is_card_number(number) == has_card_number(number) == expected, number
            assert has_card_number(f"paid with {number}.") == expected
            assert ("[card" in mask_card_numbers(f"paid with {number}.")) == expected
            wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
            assert not has_card_number(wrong)
    for prefix in NOBODYS:
        assert not has_card_number(number_of(prefix, length)), prefix


def test_epoch_times_are_no_card_numbers() -> None:
    """In milliseconds, microseconds and nanoseconds, until 2033."""
    for second in range(1_700_000_000, 1_999_000_000, 250_013):
        for digits in (f"{second}123", f"{second}123456", f"{second}123456789"):
            assert not has_card_number(digits)


def test_snowflakes_and_order_numbers_are_nearly_never_one() -> None:
    """What is found is a card number by prefix, length and check digit: nobody can tell it from one."""
    chance = random.Random(7)
    honest = [str(chance.randrange(10 ** (length - 1), 10**length)) for length in range(13, 20) for _ in range(3_000)]
    found = [digits for digits in honest if has_card_number(digits)]
    assert all(map(is_card_number, found))
    assert len(found) / len(honest) < 0.03, "it was one in ten"


def test_ids_of_ours_and_of_others_are_no_card_numbers() -> None:
    assert not [name for now in range(20_000) if has_card_number(name := booking_id(0, 1_763_840_000_000 + now))]
    chance = random.Random(11)
    uuids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(20_000)]
    assert not [name for name in uuids if has_card_number(name) or has_card_number(f"cus_{name}")]


@pytest.mark.parametrize(
    "name",
    [
        f"a1bf{CARD}c3d4e5f6a7b8", f"{CARD}abcdefabcdefabcd", f"abcdefabcdefabcd{CARD}", f"A1BF{CARD}C3D4E5F6A7B8",
        f"{CARD}aaaaaaaaaaaaaaab", "4242a4242b4242c4242deadbeef00caf", f"abcd{CARD}", f"{CARD}fa1e", f"0f1e2d{CARD}ab",
        "abc4222222222222", "deadbeef" * 3 + CARD,
    ],
)  # fmt: skip
def test_a_hexadecimal_id_has_no_card_number(name: str) -> None:
    """Alone, behind a word, in a URL. The log, where nobody can tell, blots it out."""
    assert not has_card_number(name)
    assert not has_card_number(f"cus_{name}") and not has_card_number(f"order{'x' * name[0].isalnum()}{name}")
    assert not has_card_number(f"https://shop.example/?order={name}&seat=12") and not has_card_number(f"{name} {name}")
    assert "[card " in mask_card_numbers(f"no {name}")
    assert has_card_number(f"{name} {CARD}") and has_card_number(f"{CARD}-{name}"), "the other number is one"


@pytest.mark.parametrize(
    "text",
    [
        "a" + CARD, CARD + "f", f"a{CARD}f", f"ab{CARD}", f"abc{CARD}", f"aaaa{CARD}", f"abab{CARD}", CARD + "a" * 16,
        "c378282246310005", "ab36227206271667", f"A1bf{CARD}C3D4E5F6A7B8", f"abcg{CARD}", "1111a4242b4242c4242d4242",
        "deadbeef4242 4242 4242 4242", f"abcdeg{CARD}",
    ],
)  # fmt: skip
def test_a_card_number_with_a_few_letters_is_no_id(text: str) -> None:
    assert has_card_number(text)


def test_random_ids_are_no_card_numbers() -> None:
    """As `uuid4().hex` and `token_hex` make them. One in some thousands was taken for one."""
    chance = random.Random(3)
    names = [f"{chance.getrandbits(4 * digits):0{digits}x}" for digits in (32, 40, 64) for _ in range(6_000)]
    suspect = [name for name in names if "[card " in mask_card_numbers(name)]
    assert suspect, "nothing is proved"
    assert not [name for name in names if has_card_number(name) or has_card_number(name.upper())]


@pytest.mark.parametrize("text", ["1-" * 64, "4-" * 64, "4 " * 250, "5018-" * 100, "4-" * 62 + CARD])
def test_looking_for_one_takes_a_few_steps_a_group(text: str) -> None:
    """Whoever may send a text, a key or not, makes us look at it."""
    calls: list[str] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == redaction.__file__:
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    try:
        found = has_card_number(text)
    finally:
        sys.setprofile(None)
    groups = text.count("-") + text.count(" ")
    assert found is text.endswith(CARD)
    assert calls.count("passes_luhn") <= 3 * groups
    assert len(calls) <= 8 * groups


def test_only_the_last_four_digits_are_left() -> None:
    assert mask_card_numbers(f"declined: {CARD}, 4000 0000 0000 0002") == "declined: [card 4242], [card 0002]"
    assert mask_card_numbers("4242-4242-4242-4242") == "[card 4242]"
    assert mask_card_numbers(f"é{CARD}é") == "é[card 4242]é"
    assert mask_card_numbers("a " + "%34%32" * 8 + " b") == "a [card 4242] b"
    assert mask_card_numbers(f"x %20{'%20'.join(FOURS)}%20 y") == "x %20[card 4242]%20 y"
    assert mask_card_numbers(r"'4242\xa04242\xa04242\xa04242'") == "'[card 4242]'"
