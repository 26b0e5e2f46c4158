"""The embedded server starts by itself, is shared, outlives what may die, and ends with its last user."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg2
import pytest

from shared.db import embedded
from shared.db.embedded import embedded_database
from shared.errors import ConfigurationError
from tests.waiting import eventually

USER = """
import pathlib, sys
from shared.db.embedded import embedded_database
with embedded_database(pathlib.Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's server runs as another account")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A directory in which a server ran before; tests leave it with none running."""
    path = tmp_path_factory.mktemp("embedded")
    with embedded_database(path):
        pass
    wait_until_stopped(path)
    return path


@pytest.fixture
def copy_of_data_dir(data_dir, tmp_path) -> Path:
    """A directory of the test's own, made in less time than a fresh one."""
    return copy(data_dir, tmp_path / "copy")


def copy(data_dir: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    subprocess.run(["cp", "-a", data_dir / "postgres", to], check=True)  # -a: the owner too
    return to


def query(url: str, statement: str) -> str:
    """Run a statement and commit; return the only value of its only row, as text."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0]) if cursor.description else ""


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def keeper_pid(data_dir: Path) -> int:
    return int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(server_pid(data_dir))]))


def wait_until_stopped(data_dir: Path) -> None:
    """Wait until neither the server nor any process of it is left: together they hold a lock."""
    wait_until_free(data_dir / "postgres.server.lock")


def wait_until_free(path: Path) -> None:
    with path.open("a") as lock:
        eventually(lambda: embedded._try_lock(lock), seconds=60, what=f"nobody holds {path}")


@contextlib.contextmanager
def another_user(data_dir: Path, *prefix: str, **environment: str):
    """A process inside ``embedded_database`` until its standard input is closed."""
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", USER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_fresh_directory_gets_a_server_with_an_empty_unicode_database(tmp_path):
    with embedded_database(tmp_path / "new" / "data") as url:
        assert query(url, "SELECT current_database()") == "bowerbird"
        assert query(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
        assert query(url, "SHOW server_encoding") == "UTF8"
        assert query(url, "SELECT upper('é') || ('Z' < 'a')") == "Étrue"
        assert query(url, "SHOW fsync") == "on"
    wait_until_stopped(tmp_path / "new" / "data")


def test_the_only_way_in_is_a_socket_in_a_directory_that_is_the_owners_alone(data_dir):
    with embedded_database(data_dir) as url:
        assert query(url, "SHOW listen_addresses") == ""
        directory = Path(query(url, "SHOW unix_socket_directories").strip('"')).stat()
        assert directory.st_mode & 0o777 == 0o700
        assert directory.st_uid == (data_dir / "postgres").stat().st_uid
    wait_until_stopped(data_dir)


def test_users_share_one_server_and_the_last_to_leave_stops_it(data_dir):
    with another_user(data_dir) as other:
        with embedded_database(data_dir) as url:
            assert other.stdout.readline().strip() == url
            server = server_pid(data_dir)
        with embedded_database(data_dir) as url:
            assert server_pid(data_dir) == server
            other.communicate()
            assert query(url, "SELECT 1") == "1"
        wait_until_stopped(data_dir)
    wait_until_free(data_dir / "postgres.keeper.lock")
    assert not (data_dir / "postgres.socket").exists()


def test_a_user_that_is_killed_counts_as_gone(data_dir):
    with another_user(data_dir) as user:
        assert user.stdout.readline()
        user.kill()
    wait_until_stopped(data_dir)


@on_linux
def test_a_user_that_comes_while_a_keeper_stops_its_server_waits(data_dir):
    with (data_dir / "postgres.users.lock").open("a") as keeper:
        fcntl.flock(keeper, fcntl.LOCK_EX)
        with another_user(data_dir) as user:
            waits = f"-> FLOCK  ADVISORY  READ {user.pid} "
            eventually(lambda: waits in Path("/proc/locks").read_text(), what="the user waits")
            wait_until_stopped(data_dir)
            fcntl.flock(keeper, fcntl.LOCK_UN)
            assert user.stdout.readline().startswith("postgresql://")
    wait_until_stopped(data_dir)


@pytest.mark.parametrize("victim", [keeper_pid, server_pid], ids=["keeper", "server"])
def test_what_was_committed_is_there_again_after_a_kill_of_the(victim, data_dir):
    table = victim.__name__
    with embedded_database(data_dir) as url:
        query(url, f"CREATE TABLE {table} AS SELECT 'kept' AS value")
        server = server_pid(data_dir)
        os.kill(victim(data_dir), signal.SIGKILL)
        wait_until_free(data_dir / "postgres.keeper.lock")
        with embedded_database(data_dir) as again:
            assert again == url
            assert server_pid(data_dir) != server
            assert query(url, f"SELECT value FROM {table}") == "kept"
    wait_until_stopped(data_dir)


@on_linux
def test_the_server_ends_with_its_keeper_though_nobody_comes(data_dir):
    with embedded_database(data_dir):
        os.kill(keeper_pid(data_dir), signal.SIGKILL)
        wait_until_stopped(data_dir)


def test_two_processes_that_start_at_once_on_a_fresh_directory_share_one_server(tmp_path):
    with another_user(tmp_path) as one, another_user(tmp_path) as two:
        assert one.stdout.readline() == two.stdout.readline() != ""
    assert (tmp_path / "postgres.log").read_text().count("starting PostgreSQL") == 1
    wait_until_stopped(tmp_path)


def test_a_first_start_that_was_cut_off_is_begun_anew(tmp_path):
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with embedded_database(tmp_path) as url:
        assert query(url, "SELECT 1") == "1"
    wait_until_stopped(tmp_path)
    assert not (tmp_path / "postgres.new").exists()


def test_leftovers_that_name_a_process_that_is_now_another_do_not_keep_the_server_from_starting(copy_of_data_dir):
    socket = copy_of_data_dir / "postgres.socket"
    owner = (copy_of_data_dir / "postgres").stat().st_uid
    other = subprocess.Popen(["sleep", "300"], user=owner if os.geteuid() == 0 else None)
    left = f"{other.pid}\n{copy_of_data_dir}/postgres\n1767225600\n5432\n{socket}\n\n 1 1\nready   \n"
    (copy_of_data_dir / "postgres" / "postmaster.pid").write_text(left)
    socket.mkdir()
    (socket / ".s.PGSQL.5432").touch()
    (socket / ".s.PGSQL.5432.lock").write_text(left)
    with other, embedded_database(copy_of_data_dir) as url:
        assert query(url, "SELECT 1") == "1"
        assert other.poll() is None
        other.kill()
    wait_until_stopped(copy_of_data_dir)


@pytest.mark.parametrize(("name", "has_socket"), [("a b 'c' \"d\" %2F+é", True), ("a, b", False), ("long" * 50, False)])
def test_the_directory_may_have_any_name(name, has_socket, data_dir):
    with tempfile.TemporaryDirectory() as parent:  # shorter than pytest's
        path = copy(data_dir, Path(parent) / name)
        with embedded_database(path) as url:
            assert query(url, "SHOW data_directory") == str(path / "postgres")
            socket = Path(query(url, "SELECT pg_read_file('postmaster.pid')").split("\n")[4])
            assert (socket.parent == path) is has_socket
            assert socket.exists()
        wait_until_free(path / "postgres.keeper.lock")
        assert not socket.exists()


def test_data_of_another_major_version_is_refused_by_both_versions_with_a_remedy(copy_of_data_dir):
    (copy_of_data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with (
        pytest.raises(ConfigurationError, match=r"PostgreSQL 15, this is PostgreSQL 18.*pg_dump"),
        embedded_database(copy_of_data_dir),
    ):
        pass


def test_a_directory_that_is_none_of_postgresqls_is_left_alone(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a PostgreSQL data directory"), embedded_database(tmp_path):
        pass
    assert (tmp_path / "postgres" / "letter.txt").read_text() == "mine"


def test_a_server_that_does_not_start_says_why(copy_of_data_dir):
    with (copy_of_data_dir / "postgres" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'many'\n")
    with (
        pytest.raises(ConfigurationError, match=r"(?s)shared_buffers.*BOWERBIRD_DATABASE_URL"),
        embedded_database(copy_of_data_dir),
    ):
        pass


def test_a_path_that_cannot_be_a_directory_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"cannot use .*file/data.*BOWERBIRD_DATA_DIR"),
        embedded_database(tmp_path / "file" / "data"),
    ):
        pass


def test_an_error_inside_the_block_is_passed_on_as_it_is(data_dir):
    with pytest.raises(FileNotFoundError), embedded_database(data_dir):
        raise FileNotFoundError
    wait_until_stopped(data_dir)


def test_other_systems_are_sent_to_a_server_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="BOWERBIRD_DATABASE_URL"), embedded_database(tmp_path):
        pass


def test_the_log_is_bounded_at_two_files(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "MAX_LOG_BYTES", 10)
    log = tmp_path / "postgres.log"
    with log.open("a") as server:
        for text in ("first message", "second message", "third"):
            server.write(text)
            server.flush()
            embedded._bound_log(log)
    assert log.read_text() == "third"
    assert (tmp_path / "postgres.log.1").read_text() == "second message"


@as_root
def test_roots_server_runs_as_another_account_and_changes_no_permissions(tmp_path):
    tmp_path.chmod(0o700)
    with embedded_database(tmp_path / "data"):
        assert Path(f"/proc/{server_pid(tmp_path / 'data')}").stat().st_uid != 0
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    wait_until_stopped(tmp_path / "data")


@as_root
def test_root_without_setpriv_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="util-linux"), embedded_database(tmp_path):
        pass


# Lets an ordinary account through to the Python that runs the tests, wherever that is.
AS_NOBODY = (
    *(shutil.which("setpriv") or "setpriv", "--reuid=nobody", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"),
)


@pytest.fixture
def home_of_nobody(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")  # a path that is short enough for a socket
    shutil.chown(home, "nobody")
    return home


@as_root
def test_an_ordinary_user_runs_the_server_as_himself(home_of_nobody):
    with another_user(home_of_nobody, *AS_NOBODY) as user:
        assert user.stdout.readline().startswith("postgresql://")
        assert Path(f"/proc/{server_pid(home_of_nobody)}").owner() == "nobody"
        assert Path(f"/proc/{keeper_pid(home_of_nobody)}").owner() == "nobody"
    wait_until_stopped(home_of_nobody)


@as_root
def test_a_server_that_outlived_its_keeper_is_replaced_by_the_next(home_of_nobody):
    # Without setpriv, as on macOS, the kernel does not stop the server.
    with another_user(home_of_nobody, *AS_NOBODY, PATH="/nowhere") as user:
        url = user.stdout.readline().strip()
        query(url, "CREATE TABLE proof AS SELECT 'kept' AS value")
        server = server_pid(home_of_nobody)
        os.kill(keeper_pid(home_of_nobody), signal.SIGKILL)
        wait_until_free(home_of_nobody / "postgres.keeper.lock")
        assert query(url, "SELECT 1") == "1"
        with another_user(home_of_nobody, *AS_NOBODY, PATH="/nowhere") as other:
            assert other.stdout.readline().strip() == url
            assert server_pid(home_of_nobody) != server
            assert query(url, "SELECT value FROM proof") == "kept"
    wait_until_stopped(home_of_nobody)
