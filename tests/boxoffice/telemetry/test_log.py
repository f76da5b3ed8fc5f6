"""Log lines are JSON, of one shape, and keep secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest
import structlog

from boxoffice.settings import Settings
from boxoffice.telemetry import log, request_id
from boxoffice.telemetry.outages import outages
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.sink import Sink

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


class Untellable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("x", {"thing": Untellable()}),
        ("x", {"number": 2**70}),
        ("x", {"things": [Untellable()]}),
        ("x \ud800", {"number": -(2**70)}),
        (Untellable(), {}),
        ("x", {"\ud800": 1}),
        ("x", {"exc_info": Untellable()}),
    ],
)
def test_what_cannot_be_told_is_a_line_without_it(written: Written, event: Any, fields: dict[str, Any]) -> None:
    """Logging is called where errors are handled: it never raises one of its own."""
    structlog.get_logger().error(event, **fields)

    (line,) = written.lines()

    assert line["level"] == "error"
    assert line["event"] == {"x": "x", "x \ud800": "x \\ud800"}.get(event, "Untellable")


@pytest.mark.parametrize("event", [Untellable(), 7, None])
def test_an_event_that_is_no_text_is_told_by_its_kind(written: Written, event: Any) -> None:
    structlog.get_logger().info(event, thing=1)
    (line,) = written.lines()
    assert (line["level"], line["event"]) == ("info", type(event).__name__)
    assert line["unsaid"]


@pytest.mark.parametrize("name", sorted(log.SECRET))
@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], None])
def test_each_secret_field_is_hidden(written: Written, name: str, value: Any) -> None:
    """Whatever it holds."""
    structlog.get_logger().info("x", **{name: value}, beside="shown")
    (line,) = written.lines()
    assert (line[name], line["beside"]) == ("[hidden]", "shown")


def test_which_fields_are_secret() -> None:
    assert {"authorization", "api_key", "card_number", "token", "password", "idempotency_key"} == log.SECRET


@pytest.mark.parametrize(
    ("wanted", "ours", "theirs", "chatty"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"], ["error"]),
    ],
)
def test_who_is_heard_from_which_level_on(
    written: Written, wanted: Any, ours: list[str], theirs: list[str], chatty: list[str]
) -> None:
    """Ours as the setting says; libraries never below `info`, and those that say much never below `warning`."""
    for name, heard in (
        (None, ours), ("x", theirs), *((each, chatty) for each in ("arq", "httpx2", "httpcore2", "asyncio", "stripe")),
    ):  # fmt: skip
        stream = Written()
        log.configure(Settings(log_level=wanted), stream)
        logger: Any = structlog.get_logger() if name is None else logging.getLogger(name)
        for level in ("debug", "info", "warning", "error"):
            getattr(logger, level)("said")
        assert [line["level"] for line in stream.lines()] == heard, name
    for name in ("arq", "httpx2", "httpcore2", "asyncio", "stripe"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_an_exception_is_the_one_that_is_being_handled_unless_one_is_named(written: Written) -> None:
    """Also when another was told in the same words before."""
    logger = structlog.get_logger()
    try:
        raise ValueError("handled")
    except ValueError:
        logger.exception("x")
        logger.error("x", exc_info=KeyError("named"))
        logger.exception("x", exc_info=KeyError("named"))
        logger.error("x")
        logger.error("x", exc_info=(KeyError, KeyError("of a tuple"), None))
        logger.error("x", exc_info=(None, None, None))
    logger.exception("x")
    found = [line.get("exception", "-").strip().rpartition("\n")[2] for line in written.lines()]
    assert found == [
        "ValueError: handled", "KeyError: 'named'", "KeyError: 'named'", "-", "KeyError: 'of a tuple'", "ValueError: handled",
        "",
    ]  # fmt: skip


async def test_lines_of_one_turn_are_written_together_and_bad_news_at_once(written: Written) -> None:
    """What was said before bad news comes before it."""
    logger = structlog.get_logger()
    for n in range(3):
        logger.info("x", n=n)
    assert written.lines() == []
    logger.warning("x", n=3)
    assert [line["n"] for line in written.lines()] == [0, 1, 2, 3]
    for _ in range(2):
        logger.debug("hidden")
        logger.info("x", n=4)
        before = len(written.lines())
        await asyncio.sleep(0)
        assert len(written.lines()) == before + 1


def test_a_librarys_line_that_cannot_be_made_is_a_line(written: Written, capfd: pytest.CaptureFixture[str]) -> None:
    """Arguments that do not fit, an argument without a text, a message that is none."""
    logger = logging.getLogger("arq.worker")
    logger.error("%d jobs", "many")
    logger.error("%s", Untellable())
    logger.error(Untellable())
    try:
        raise ValueError(Untellable())
    except ValueError:
        logger.exception("failed")

    assert [line["level"] for line in written.lines()] == ["error"] * 4
    assert written.lines()[0]["event"] == "%d jobs"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["boxoffice", "arq.worker", "uvicorn.error", "asyncio"])
def test_a_log_that_cannot_be_written_is_counted_and_told(name: str, written: Written) -> None:
    """Ours and those of arq and uvicorn: the lost lines are counted together."""
    with open("/dev/full", "wb", buffering=0) as full:
        log.configure(Settings(log_level="info"), full)
        structlog.get_logger().error("lost")
        logging.getLogger(name).error("lost too")
        (printer,) = {handler.printer for handler in logging.root.handlers if isinstance(handler, log.Handler)}
        printer.sink.write = Sink(written, log.lost).write
        logging.getLogger(name).error("heard")

    told, heard = written.lines()
    assert (told["event"], told["lines"], told["error"], heard["event"]) == ("log.lost", 2, "ENOSPC", "heard")
    assert told["since"].endswith("Z")


def test_without_a_standard_error_nothing_is_logged_and_nothing_fails(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    log.configure(Settings(log_level="info"))
    structlog.get_logger().error("x")
    logging.getLogger("x").error("x")


def test_a_process_with_a_log_says_what_is_away(written: Written) -> None:
    """Unlike a command, which has none."""
    outages.silent = True
    log.configure(Settings(), written, expected=(OSError,))
    assert not outages.silent
    assert seldom.expected == (OSError,)


class Away(OSError):
    """A store that does not answer."""


def test_what_libraries_say_of_errors_that_we_live_with_has_no_traceback(written: Written) -> None:
    """Nor what they say further down: the repr of a task, of a request. A bug's stays whole."""
    log.configure(Settings(log_level="info"), written, expected=(OSError,))
    for error in (Away("hunter2"), ValueError("a bug")):
        try:
            raise error
        except Exception as raised:
            logging.getLogger("x").error("Task failed\nfuture: <Task %s>", "hunter2", exc_info=raised)
            structlog.get_logger().exception("batch.failed")
            structlog.get_logger().error("batch.failed", exc_info=raised)
    logging.getLogger("x").error("Task failed\nfuture: elsewhere", exc_info=Away("never raised"))
    lines = written.lines()
    assert len(lines) == 6, "the same, wherever it was raised"
    for line, of in zip(
        lines[:3], ({"event": "Task failed", "logger": "x"}, *[{"event": "batch.failed"}] * 2), strict=True
    ):
        assert line == {"at": line["at"], "level": "error", "error": "Away", **of}
    assert all("ValueError: a bug" in line["exception"] for line in lines[3:])


def test_what_libraries_repeat_is_counted(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their words, whatever stands in their gaps and on further lines; each kind and place of an error by itself."""
    now = [100.0]
    (handler,) = (each for each in logging.root.handlers if isinstance(each, log.Handler))
    monkeypatch.setattr(handler.seldom, "now_s", lambda: now[0])
    for n in range(12):
        logging.getLogger("x").warning("try %d of %s", n, "it")
        logging.getLogger("x").warning(f"lost\n{n}")
        now[0] += 1
    logging.getLogger("y").warning("try %d of %s", 0, "it")
    logging.getLogger("x").error("try %d of %s", 0, "it")
    lines = written.lines()
    assert [(line["event"].partition("\n")[0], line.get("suppressed"), line["logger"], line["level"]) for line in lines] == [
        ("try 0 of it", None, "x", "warning"), ("lost", None, "x", "warning"), ("try 10 of it", 9, "x", "warning"),
        ("lost", 9, "x", "warning"), ("try 0 of it", None, "y", "warning"), ("try 0 of it", None, "x", "error"),
    ]  # fmt: skip


def test_a_line_names_the_request_that_its_task_works_for(written: Written) -> None:
    """Ours and libraries', unless it says itself whose it is."""

    def say() -> None:
        request_id.current.set(b"r-1")
        structlog.get_logger().info("a")
        structlog.get_logger().info("b", request_id="r-2")
        logging.getLogger("x").warning("c")

    Context().run(say)
    structlog.get_logger().info("d")
    assert [line.get("request_id") for line in written.lines()] == ["r-1", "r-2", "r-1", None]


def test_a_line_has_the_id_that_the_answer_has(written: Written) -> None:
    """A trace that looks as if it had a card number in it is told as it is; in any other field it is blotted out."""
    trace = "a1bf4242424242424242c3d4e5f6a7b8"
    structlog.get_logger().info("a", request_id=trace, request_ids=f"{trace} r-2", customer=trace)
    structlog.get_logger().info("b", request_id="4242424242424242")
    first, second = written.lines()
    assert (first["request_id"], first["request_ids"]) == (trace, f"{trace} r-2")
    assert first["customer"] == "a1bf[card 4242]c3d4e5f6a7b8" and second["request_id"] == "[card 4242]"
