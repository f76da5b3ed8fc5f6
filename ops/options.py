"""What several commands are told, and what they make of it."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boxoffice.errors import CannotRun
from boxoffice.secret_files import read_secrets
from ops.stack.running import adopt_stack, external_urls

if TYPE_CHECKING:
    from boxoffice.settings import Settings

__all__ = ["DEFAULT_DATA_DIR", "DataDirOption", "finite", "moment", "settings_for"]

DEFAULT_DATA_DIR = Path(".boxoffice")

DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar=["BOXOFFICE_DATA_DIR", "DATA_DIR"], help="Where embedded servers keep everything."
    ),
]


def settings_for(data_dir: Path) -> Settings:
    """Settings for a command: the servers that the environment names, else those of the stack that runs on `data_dir`.

    Raises CannotRun when there are neither, or when settings are wrong.
    """
    from boxoffice.settings import load_settings

    if read_secrets(os.environ).wrong:
        return (
            load_settings()
        )  # which says so, and what else is wrong; it would be a mistake to go on with other servers
    adopt_stack(data_dir)
    if not all(external_urls(os.environ)):
        raise CannotRun(
            f"No box office runs on {data_dir}: start one with `boxoffice up`, or set REDIS_URL and DATABASE_URL."
        )
    return load_settings()


def finite(value: float | None) -> float | None:
    """The number that an option was given. Raises BadParameter for `nan` and `inf`, which are within every bound."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("This is no number that can be counted to.")
    return value


def moment(text: str) -> datetime:
    """The time that an option was given: a date, or a date and a time, in UTC unless it has a zone. Raises BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time such as 2030-05-22 or 2030-05-22T14:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
