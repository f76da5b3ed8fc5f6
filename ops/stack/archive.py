"""PostgreSQL's write-ahead log, kept in a folder: with a base backup, any moment since can be restored."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from boxoffice.errors import CannotRun
from ops.stack.processes import Account

__all__ = ["FOLDER", "archive_folder", "archive_of", "archiving", "fetching"]

FOLDER: Final = "BOXOFFICE_POSTGRES_ARCHIVE"

EVERY_S: Final = 60
"""A segment of 16 MB is archived when it is full, and after so long when anything was written."""


def archive_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the log is kept; None when nobody asked for it."""
    chosen = environ.get(FOLDER)
    return Path(chosen).absolute() if chosen else None


def archiving(environ: Mapping[str, str], account: Account | None) -> dict[str, str]:
    """Settings of a server that keeps its log, in a folder that its account owns. None of them where nobody asked for it.

    A segment is there under its name once it is on the disk, whole. One that is there already is archived when it says
    the same (the server died before it could note it), and never overwritten: two servers must not share the folder.
    """
    folder = archive_folder(environ)
    if folder is None:
        return {}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account and folder.stat().st_uid != account.uid:
            os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise CannotRun(f"{FOLDER}: {error.strerror} ({folder}).") from error
    there, part = _quoted(folder, "%f"), _quoted(folder, "%f.part")
    command = f'cmp -s "%p" {there} || {{ test ! -e {there} && cp "%p" {part} && sync {part} && mv {part} {there}; }}'
    return {"archive_mode": "on", "archive_command": command, "archive_timeout": f"{EVERY_S}s"}


def archive_of(environ: Mapping[str, str], recorded: str, first: str, there: Path) -> Path | None:
    """The archive for a restore: the one that is named, else the one that the backup has recorded (empty: none). `first` is
    the segment with which the backup begins, `there` the log of the data that are there.

    Raises CannotRun when the archive lacks that segment and so does `there`: recovery would end at the backup, and say nothing.
    """
    folder = archive_folder(environ) or (Path(recorded) if recorded else None)
    if folder and not any((log / first).exists() for log in (folder, there)):
        raise CannotRun(
            f"{folder}, where the log is archived, does not have {first}, with which the backup begins: all that was committed "
            f"since would be forgotten. Name the archive, or a copy of it, in {FOLDER}, or accept the loss with --no-archive. "
            "Nothing was changed."
        )
    return folder


def fetching(*folders: Path) -> str:
    """A `restore_command`: the segment from the first of these folders that has it."""
    return " || ".join(f'cp {_quoted(folder, "%f")} "%p" 2>/dev/null' for folder in folders)


def _quoted(folder: Path, name: str) -> str:
    """For the shell. PostgreSQL replaces what a `%` begins before the shell sees it."""
    return f"{shlex.quote(str(folder).replace('%', '%%'))}/{name}"
