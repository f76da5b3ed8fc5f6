"""What an error says of itself when nobody says it better: the first paragraph of its docstring, in one line."""

from __future__ import annotations

from boxoffice.errors import BoxOfficeError, Malformed


class Explained(BoxOfficeError):
    """Something went wrong, and this
    is what.

    How it came to that is nothing for the shop.
    """


class Silent(BoxOfficeError):
    pass


Silent.__doc__ = None


def test_the_first_paragraph_is_told() -> None:
    assert Explained().detail == str(Explained()) == "Something went wrong, and this is what."
    assert (Silent().detail, Explained("Otherwise.").detail) == ("", "Otherwise.")
    assert (Explained().details, Explained("x", left=3).details) == ({}, {"left": 3})


def test_what_is_malformed_says_where_and_how() -> None:
    bare, full = Malformed(), Malformed("No.", pointer="/items/0", code="empty")
    assert (bare.detail, bare.pointer, bare.code) == ("A part of the request is missing or malformed.", "", "malformed")
    assert (full.detail, full.pointer, full.code) == ("No.", "/items/0", "empty")
    assert full.details == {"errors": [{"pointer": "/items/0", "code": "empty"}]}
