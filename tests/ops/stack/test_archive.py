"""PostgreSQL's log is archived once and whole: a segment that is there is never overwritten, nor half of one believed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from ops.stack.archive import archive_of, archiving, fetching

NAME = "000000010000000000000001"


def archives(folder: Path, segment: Path) -> bool:
    """As PostgreSQL does: it fills in the names, and asks a shell."""
    command = archiving({"BOXOFFICE_POSTGRES_ARCHIVE": str(folder)}, None)["archive_command"]
    return shell(command, NAME, segment)


def shell(command: str, name: str, path: Path) -> bool:
    filled = command.replace("%%", "\0").replace("%f", name).replace("%p", str(path)).replace("\0", "%")
    return subprocess.run(["sh", "-c", filled], check=False, capture_output=True).returncode == 0


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "segment"
    path.write_bytes(b"log" * 1_000)
    return path


@pytest.mark.parametrize("name", ["log", "a log's folder", "100 %f"])
def test_a_segment_is_there_whole_and_again_is_no_error(tmp_path: Path, segment: Path, name: str) -> None:
    folder = tmp_path / name
    assert archives(folder, segment) and archives(folder, segment)
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes() == segment.read_bytes()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_another_of_the_same_name_is_refused_and_what_is_there_stays(tmp_path: Path, segment: Path) -> None:
    folder = tmp_path / "log"
    archiving({"BOXOFFICE_POSTGRES_ARCHIVE": str(folder)}, None)
    (folder / NAME).write_bytes(b"of another server")
    assert not archives(folder, segment)
    assert (folder / NAME).read_bytes() == b"of another server"


def test_half_a_segment_of_an_earlier_try_is_written_over(tmp_path: Path, segment: Path) -> None:
    folder = tmp_path / "log"
    archiving({"BOXOFFICE_POSTGRES_ARCHIVE": str(folder)}, None)
    (folder / f"{NAME}.part").write_bytes(b"lo")
    assert archives(folder, segment)
    assert (folder / NAME).read_bytes() == segment.read_bytes()


def test_a_segment_is_fetched_from_the_first_folder_that_has_it(tmp_path: Path) -> None:
    folders = [tmp_path / "a b", tmp_path / "c%d"]
    for folder in folders:
        folder.mkdir()
    command, wanted = fetching(*folders), tmp_path / "wanted"
    assert not shell(command, NAME, wanted)
    (folders[1] / NAME).write_text("second")
    assert shell(command, NAME, wanted) and wanted.read_text() == "second"
    (folders[0] / NAME).write_text("first")
    assert shell(command, NAME, wanted) and wanted.read_text() == "first"


def test_a_restore_reads_the_archive_that_has_the_log_from_the_backup_on(tmp_path: Path) -> None:
    """The one that is named goes before the recorded one; the data that are there may have what was not archived yet."""
    named, recorded, there = (tmp_path / name for name in ("named", "recorded", "there"))
    for folder in (named, recorded, there):
        folder.mkdir()
    environ = {"BOXOFFICE_POSTGRES_ARCHIVE": str(named)}
    assert archive_of({}, "", NAME, there) is None
    for chosen, folder in (({}, recorded), (environ, named)):
        with pytest.raises(CannotRun, match=rf"^{folder}, .* {NAME}, .* BOXOFFICE_POSTGRES_ARCHIVE, .*--no-archive"):
            archive_of(chosen, str(recorded), NAME, there)
        (folder / NAME).touch()
        assert archive_of(chosen, str(recorded), NAME, there) == folder
        (folder / NAME).rename(there / NAME)
        assert archive_of(chosen, str(recorded), NAME, there) == folder
        (there / NAME).unlink()


def test_nothing_is_archived_where_nobody_asked_for_it_and_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    assert archiving({}, None) == archiving({"BOXOFFICE_POSTGRES_ARCHIVE": ""}, None) == {}
    (tmp_path / "file").touch()
    with pytest.raises(CannotRun, match=r"^BOXOFFICE_POSTGRES_ARCHIVE: "):
        archiving({"BOXOFFICE_POSTGRES_ARCHIVE": str(tmp_path / "file" / "log")}, None)
