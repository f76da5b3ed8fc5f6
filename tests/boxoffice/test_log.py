"""Log lines are JSON, of one shape, and keep secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from boxoffice import log
from boxoffice.settings import Settings

CARD = "4242424242424242"


class Written(io.BytesIO):
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    stream = Written()
    log.configure(Settings(log_level="info"), stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_line_has_a_time_a_level_and_an_event(written: Written) -> None:
    structlog.get_logger().info("batch.settled", bookings=5)
    logging.getLogger("uvicorn.error").warning("port %d", 80)

    ours, theirs = written.lines()

    assert ours == {"at": ours["at"], "level": "info", "event": "batch.settled", "bookings": 5}
    assert ours["at"].endswith("Z")
    assert theirs == {"at": theirs["at"], "level": "warning", "event": "port 80", "logger": "uvicorn.error"}


def test_lines_below_the_level_are_dropped(written: Written) -> None:
    structlog.get_logger().debug("hidden")
    logging.getLogger("x").debug("hidden")

    assert written.lines() == []


def test_secrets_are_hidden(written: Written) -> None:
    """By the name of their field, and card numbers wherever they are."""
    logger = structlog.get_logger()
    logger.info("x", authorization="Bearer abc", token="tok_ok", card_number=CARD)
    logger.info(f"paid with {CARD}", said=f"no {CARD}!", many=[CARD], bound=1)
    logging.getLogger("x").error("no %s", CARD)
    try:
        raise ValueError(CARD)
    except ValueError:
        logger.exception("failed")
        logging.getLogger("x").exception("failed")

    text = written.getvalue().decode()

    assert "abc" not in text and "tok_ok" not in text
    assert CARD not in text
    assert text.count("[card 4242]") >= 6
    assert "ValueError" in text and "Traceback" in written.lines()[-1]["exception"]


def test_what_is_said_again_is_said_of_now(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line like the one before has its own time; and 1 is not True."""
    logger = structlog.get_logger()
    monkeypatch.setattr(log.time, "time_ns", iter(range(0, 10**10, 10**9)).__next__)
    for value in (1, True, 1.0, "1", 1):
        logger.info("request.refused", type="sold-out", value=value)

    lines = written.lines()

    assert [line["at"][17:] for line in lines] == ["00.000Z", "01.000Z", "02.000Z", "03.000Z", "04.000Z"]
    assert [repr(line["value"]) for line in lines] == ["1", "True", "1.0", "'1'", "1"]


def test_bound_fields_are_kept(written: Written) -> None:
    structlog.get_logger().bind(shard=3).warning("x", bookings=1)

    assert written.lines()[0] | {"shard": 3, "bookings": 1} == written.lines()[0]


def test_whatever_is_logged_becomes_a_line(written: Written) -> None:
    """A lone surrogate, an object, a newline."""
    structlog.get_logger().info("x", text="\ud800", thing=object(), newline="a\nb", nothing=None)

    (line,) = written.lines()

    assert line["newline"].count("b") == 1
    assert line["nothing"] is None
