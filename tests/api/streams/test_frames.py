"""How messages are written."""

from __future__ import annotations

from api.streams.frames import frame, id_of, retry


def test_a_message_is_three_lines_and_an_empty_one() -> None:
    assert frame(b"booking", b"7", b'{"a":1}') == b'id: 7\nevent: booking\ndata: {"a":1}\n\n'


def test_an_id_says_what_is_told_and_not_by_whom() -> None:
    assert id_of(b"a") == id_of(b"a") != id_of(b"b")
    assert id_of(b"a").isalnum()


def test_a_reader_is_told_when_to_come_back() -> None:
    assert retry(3_000) == b"retry: 3000\n\n"
