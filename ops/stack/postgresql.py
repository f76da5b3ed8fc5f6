"""A private PostgreSQL, with a database `boxoffice` that belongs to a user `boxoffice`.

One file because it is one server from its first start to its end: account, data folder, process, settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from boxoffice.errors import CannotRun
from ops.roles import ADMIN, NAME, create, passwords, separate
from ops.stack.archive import archiving
from ops.stack.binaries import PostgresBinaries, find_postgres, reachable
from ops.stack.data_dir import DataDir, ServerLock
from ops.stack.ports import port_is_free
from ops.stack.processes import Account, Child, nothing

__all__ = ["SETTINGS", "START_TIMEOUT_S", "PostgresServer", "is_ready", "own"]

SEPARATED = "boxoffice-roles"
"""Is in the data folder when the application's role is no superuser."""

START_TIMEOUT_S = 300.0
"""Recovery after a crash replays the log since the last checkpoint, at most some minutes of writes."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # TCP with a password only: the path of a socket may not be longer than a hundred characters.
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    # After a checkpoint the first change of a page logs all of it, and keys are digests: they touch every page of an index.
    # A booking is 1.4 KB of it, so a million fit between two checkpoints; a crash replays as much, within the timeout above.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Segments to write over, instead of new ones that are filled with zeros first.
    "min_wal_size": "512MB",
    "timezone": "UTC",
}


class PostgresServer(Child):
    """PostgreSQL on 127.0.0.1. Each major version has its own data folder; none is upgraded in place."""

    def __init__(
        self,
        home: DataDir,
        environ: Mapping[str, str],
        *,
        debug: bool,
        check: Callable[[], None] = nothing,
    ) -> None:
        super().__init__(
            "postgres",
            home.logs / "postgres.log",
            stop_signal=signal.SIGINT,
            check=check,
        )
        # Immediate shutdown: the next start recovers, and no child is left behind.
        self.hurry_signal = signal.SIGQUIT
        self._home = home
        self._environ = environ
        self._debug = debug
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients connect, password included."""
        return f"postgresql://{NAME}:{self._password}@127.0.0.1:{self.port}/{NAME}"

    @property
    def admin_url(self) -> str:
        """The same database for the superuser."""
        return f"postgresql://{ADMIN}:{self._admin_password}@127.0.0.1:{self.port}/{NAME}"

    @property
    def _password(self) -> str:
        return self._home.secret("postgres")

    @property
    def _admin_password(self) -> str:
        return self._home.secret("postgres_admin")

    def start(self, more: Mapping[str, str] | None = None, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it, first making its data folder, and wait until it takes connections. A port, once chosen, stays. `more`:
        settings of this start alone."""
        data, binaries, account = self.place()
        lock = ServerLock(self._home.path / "postgres.lock")
        fd = lock.acquire(lambda: _end_leftover(data), self.check)
        settings = {**SETTINGS, **archiving(self._environ, account), **(more or {})}
        try:
            if not data.exists():
                self._create(data, binaries, account)
            own(data, account)
            # We hold the lock, so no server is left: after a crash, the pid in this file may be a stranger's by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
            self._separate_roles(data, binaries, account)
            self._run(data, binaries, account, fd, settings, timeout_s)
        finally:
            lock.release()

    def end_leftover(self) -> None:
        """See to it that no server that was started earlier uses the files."""
        data, *_ = self.place()
        lock = ServerLock(self._home.path / "postgres.lock")
        lock.acquire(lambda: _end_leftover(data), self.check)
        lock.release()

    def take_passwords(self) -> None:
        """Give its roles the passwords of this data directory, where the data are of another. It must not run."""
        data, binaries, account = self.place()
        command: list[str | Path] = [binaries.bin_dir / "postgres", "--single", "-D", data, "postgres"]
        self.tool(command, account, passwords(self._password, self._admin_password))

    def environment(self) -> dict[str, str]:
        """Of every program of PostgreSQL."""
        return _environment(self._environ)

    def place(self) -> tuple[Path, PostgresBinaries, Account | None]:
        """Its data folder, the programs that belong to it, and the account that runs them."""
        account = _account(self._environ)
        folder = self._folder_for(account)
        binaries = find_postgres(self._environ)
        if account:
            binaries = reachable(binaries, account, folder)
        return folder / f"postgres{binaries.major}", binaries, account

    def _run(
        self, data: Path, binaries: PostgresBinaries, account: Account | None, fd: int,
        settings: Mapping[str, str], timeout_s: float,
    ) -> None:  # fmt: skip
        def serve() -> None:
            settled = {**settings, "port": str(self.port)}
            options = [word for name, value in settled.items() for word in ("-c", f"{name}={value}")]
            self.spawn(
                [binaries.bin_dir / "postgres", "-D", data, *options],
                env=self.environment(),
                account=account,
                cwd="/",
                pass_fds=[fd],
            )
            self.wait_until(lambda: is_ready(data, self.pid), timeout_s)

        first = self.port == 0
        self.port = self.port or self._home.port(self.name)
        try:
            serve()
        except CannotRun:
            if not first or self.alive or port_is_free(self.port):
                raise
            # Somebody took the port between our look and the server's.
            self.port = self._home.new_port(self.name)
            serve()

    def _folder_for(self, account: Account | None) -> Path:
        """Where the data and copied binaries live: the data directory, unless the account may not go there."""
        home = self._home.path
        if account is None or subprocess.run(["test", "-x", home], check=False, **_as(account)).returncode == 0:
            return home
        # Named for this very data directory: one made anew in the same place has another password.
        name = hashlib.sha256(f"{home}\n{self._password}".encode()).hexdigest()[:8]
        folder = Path("/var/lib") / f"boxoffice-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        (home / "postgres-is-in").write_text(f"{folder}\n")
        return folder

    def _create(self, data: Path, binaries: PostgresBinaries, account: Account | None) -> None:
        """Make the data folder under another name and rename it last: half a database is never started."""
        draft = data.with_name(data.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        own(draft, account)
        options = ["-U", ADMIN, "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--data-checksums"]
        if binaries.major >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._debug:
            # Tests and benchmarks throw the folder away; a crash while it is made is no loss to them.
            options.append("--no-sync")
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(f"{self._admin_password}\n")
            password.flush()
            if account:
                os.chown(password.name, account.uid, account.gid)
            self.tool([binaries.bin_dir / "initdb", "-D", draft, f"--pwfile={password.name}", *options], account)
        self.tool(
            [binaries.bin_dir / "postgres", "--single", "-D", draft, "postgres"],
            account,
            create(self._password),
        )
        _mark(draft, account)
        draft.rename(data)

    def _separate_roles(self, data: Path, binaries: PostgresBinaries, account: Account | None) -> None:
        """Once, in a data folder of an earlier version."""
        if not (data / SEPARATED).exists():
            command: list[str | Path] = [binaries.bin_dir / "postgres", "--single", "-D", data, NAME]
            self.tool(command, account, separate(self._password, self._admin_password))
            _mark(data, account)

    def tool(self, argv: Sequence[str | Path], account: Account | None, text: str = "") -> None:
        """Run one of PostgreSQL's programs. Raises `CannotRun` with what it complained of."""
        try:
            ran = subprocess.run(
                argv,
                env=self.environment(),
                cwd="/",
                input=text,
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
                **_as(account),
            )
        except PermissionError as error:
            raise CannotRun(
                f"PostgreSQL may not run as root, and root may not become '{account.name if account else ''}' here: "
                "run as another user, or set DATABASE_URL."
            ) from error
        if ran.returncode or "ERROR:" in ran.stderr:
            raise CannotRun(f"{Path(argv[0]).name} failed: {' '.join(ran.stderr.split())[-600:]}")


def _account(environ: Mapping[str, str]) -> Account | None:
    """PostgreSQL refuses to run as root; then it runs as an account that already exists. None: as we are."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise CannotRun(
                f"User id {os.geteuid()} has no name on this machine, and PostgreSQL does not run without one: "
                "run as a user of /etc/passwd, or set DATABASE_URL."
            ) from None
        return None
    for name in filter(None, (environ.get("BOXOFFICE_POSTGRES_ACCOUNT"), "postgres", "nobody")):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise CannotRun("PostgreSQL may not run as root, and there is no account 'postgres' or 'nobody': set DATABASE_URL.")


class _As(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(account: Account | None) -> _As:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing of ours but PATH. Without LC_ALL a postmaster on macOS refuses to start."""
    return {"PATH": environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def own(data: Path, account: Account | None) -> None:
    """Give a folder to the account that runs PostgreSQL."""
    if account and data.stat().st_uid != account.uid:
        for path in (*data.rglob("*"), data):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _mark(data: Path, account: Account | None) -> None:
    mark = data / SEPARATED
    mark.touch()
    if account:
        os.chown(mark, account.uid, account.gid)


def is_ready(data: Path, pid: int, *states: str) -> bool:
    """What `pg_ctl -w` looks at. A server that replays a log is a `standby` as soon as it does."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in (states or ("ready", "standby"))


def _end_leftover(data: Path) -> None:
    """Its lock is held, so its process lives, and the first line of this file names it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGINT)
