"""The supervisor: the suite's services as child processes of one command, on one machine.

The model
---------
Each service is a process of its own, ``python -m services.<name>``, in a process group of its own, so that Ctrl-C in
a terminal reaches the supervisor alone and it decides in which order things end. Settings and the database's URL go
through the environment, never over a command line that other users of the machine can read.

Children write to ``{data_dir}/logs/{service}.log`` themselves: no pipe can fill up and stop them, and their last words
outlive the supervisor. The supervisor follows the files where somebody wants to watch. A log is moved aside, to
``.log.1``, when the supervisor starts or when it has grown past MAX_LOG_BYTES: two files a service, never more.

Failures: a child that ends without having been told to is started again after a delay that doubles; one that says its
configuration is wrong (exit status 78, ``EX_CONFIG`` of sysexits.h) would only say so again, so the supervisor ends
with its message. Children die with the supervisor even if that is killed: the kernel sends them SIGTERM (Linux).

One supervisor a data directory: a lock on ``supervisor.lock``, which the kernel releases when its holder ends. The file
says who holds it and where the API is.

Threads: none. :meth:`Supervisor.tend` does what is due and returns; its caller, the main thread, turns the loop.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self

from shared.errors import BowerbirdError, ConfigurationError
from shared.health import heartbeat_path, is_alive
from shared.logging import mask
from shared.settings import Settings
from shared.tasks import WORKER_SERVICES

SERVICES: tuple[str, ...] = ("scheduler", *WORKER_SERVICES, "api")
EX_CONFIG = 78
STOP_MARGIN_SECONDS = 10.0
"""Given on top of the grace period, in which a service ends its work, before it is killed."""
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
STABLE_AFTER_SECONDS = 60.0
"""A service that ran this long is not failing at start: its next delay is the first again."""
MAX_LOG_BYTES = 10 * 1024**2
LAST_LINES = 3

# Runs before the service, in its process: asks the kernel for SIGTERM when the supervisor ends, then becomes the
# service. A program of its own, as Python code between fork and exec can deadlock (subprocess, "preexec_fn"); the
# request outlives exec (prctl(2), PR_SET_PDEATHSIG). Arguments: the supervisor's pid, the program, its arguments.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("The supervisor ended before this service began.")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceFailedError(BowerbirdError):
    """A service ended again and again; the text holds its last words and where its log is."""


def service_command(service: str, *arguments: str) -> list[str]:
    """Return the command line of a service. ``-P``: a folder ``services`` where the user happens to be is not ours."""
    return [sys.executable, "-P", "-m", f"services.{service}", *arguments]


def service_environment(settings: Settings, database_url: str) -> dict[str, str]:
    """Return the environment of a service: ours, with these settings and this database."""
    ours = settings.model_copy(update={"database_url": database_url})
    return {**os.environ, **ours.environment(), "PYTHONUNBUFFERED": "1"}


def launch(
    command: Sequence[str], environment: Mapping[str, str], *, output: IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a program in a process group of its own; the kernel tells it to stop when this process ends.

    :param output: where its standard output and error go; None: to ours.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
    )


@dataclass
class _Child:
    """A service and how it fares."""

    name: str
    command: Sequence[str]
    log: "_Log"
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    """On the monotonic clock."""
    begun: float = 0.0
    """The same on the clock of file times: an older heartbeat is another process's."""
    failures: int = 0
    restart_at: float = 0.0


class _Log:
    """The log file of a service: appended to by the service, followed and bounded by the supervisor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0
        self._rest = b""
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._move_aside()

    def lines(self) -> Iterator[str]:
        """Yield the lines written since the last call."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._position:  # emptied by someone else
                self._position = 0
            file.seek(self._position)
            *lines, self._rest = (self._rest + file.read()).split(b"\n")
            self._position = file.tell()
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self.last.append(text)
                    yield text
        if self._position > MAX_LOG_BYTES:
            self._move_aside()

    def _move_aside(self) -> None:
        # Copied and emptied, not renamed: a running service goes on writing to the file it has open.
        try:
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            os.truncate(self.path, 0)
        except FileNotFoundError:
            pass
        except OSError:  # no room for a copy, or read-only: it stays, and the next line is another occasion
            return
        self._position = 0


class Supervisor:
    """Starts the services, keeps them running, stops them. Use as a context manager, or acquire, start, stop.

    :param database_url: the database in use; the embedded one's URL is known only at run time.
    :param services: names, or names with the command line of each (tests).
    :param report: takes a sentence when something happened that a person should know.
    :param show: takes service and line for every line a service logs; None: only the files have them.
    :param give_up_after: raise :class:`ServiceFailedError` when a service ended so often in a row; None: never.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        services: Sequence[str] | Mapping[str, Sequence[str]] = SERVICES,
        report: Callable[[str], None],
        show: Callable[[str, str], None] | None = None,
        give_up_after: int | None = None,
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        self._commands = (
            dict(services) if isinstance(services, Mapping) else {name: service_command(name) for name in services}
        )
        self._report = report
        self._show = show
        self._give_up_after = give_up_after
        self._children: dict[str, _Child] = {}
        self._lock = SupervisorLock(settings)
        self._api_port = settings.api_port

    def __enter__(self) -> Self:
        if not self.acquire():
            raise ConfigurationError(f"{self._lock.holder()} Stop that one first, or use another BOWERBIRD_DATA_DIR.")
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def api_url(self) -> str | None:
        """Where the API of this supervisor listens; None if it runs none. Known once it has started."""
        url = base_url(self._settings.api_host, self._api_port) + self._settings.api_prefix
        return url if "api" in self._commands else None

    def metrics_port(self, service: str) -> int | None:
        """Return where a service answers probes: each has a port of its own, from the setting's on, in our order.

        The setting 0 is any free one, for each. The API's place in the row stays empty: it has a port already.
        """
        first = self._settings.metrics_port
        return first and first + list(self._commands).index(service)

    def acquire(self) -> bool:
        """Become the supervisor of the data directory; return False if another process is."""
        return self._lock.acquire()

    def start(self) -> None:
        """Start every service; return at once. Call :meth:`acquire` first.

        Raise :class:`ConfigurationError` if the API's port is taken.
        """
        if "api" in self._commands:
            self._choose_port()
        for name, command in self._commands.items():
            self._children[name] = _Child(name, command, _Log(self._settings.data_dir / "logs" / f"{name}.log"))
            self._start(self._children[name])
        self._describe()

    def tend(self) -> None:
        """Do what is due: pass log lines on, start again what ended. Call it several times a second.

        Raise :class:`ConfigurationError` with a service's own message if that one cannot run as configured, and
        :class:`ServiceFailedError` as ``give_up_after`` says.
        """
        for child in self._children.values():
            if child.process is None:
                if time.monotonic() >= child.restart_at:
                    self._try_to_restart(child)
            elif child.process.poll() is not None:
                self._follow(child)
                self._ended(child, child.process.returncode)
            else:
                self._follow(child)

    def waiting_for(self) -> list[str]:
        """Return the services that are not ready yet."""
        return [name for name, child in self._children.items() if not self._is_ready(child)]

    def stop(self) -> None:
        """Stop every service and give the data directory back. A second Ctrl-C while it waits cuts the grace short."""
        with _counted_signals() as signals:
            running = [child for child in self._children.values() if child.process is not None]
            for child in running:
                assert child.process is not None
                child.process.terminate()
            deadline = time.monotonic() + self._settings.grace_seconds + STOP_MARGIN_SECONDS
            while any(self._is_running(child) for child in running) and time.monotonic() < deadline and not signals:
                time.sleep(0.02)
            for child in running:
                if self._is_running(child):
                    self._report(f"{child.name} did not stop in time; killing it.")
                    self._kill(child)
                self._follow(child)
                with contextlib.suppress(OSError):
                    heartbeat_path(self._settings, child.name).unlink()
        self._children = {}
        self._lock.release()

    def _choose_port(self) -> None:
        wanted, host = self._settings.api_port, self._settings.api_host
        port = free_port(host, wanted)
        if port is None:
            raise ConfigurationError(
                f"Port {wanted} on {host} is in use, so the API cannot listen there. Stop what uses it, or set "
                "BOWERBIRD_API_PORT to another port (0: any free one)."
            )
        self._api_port = port

    def _start(self, child: _Child) -> None:
        child.started_at, child.begun = time.monotonic(), time.time()
        child.log.last.clear()
        with child.log.path.open("ab") as log:
            child.process = launch(child.command, self._environment(child.name), output=log)

    def _try_to_restart(self, child: _Child) -> None:
        try:
            self._restart(child)
        except OSError as error:  # its log cannot be opened, or there is no memory for one more process
            child.restart_at = time.monotonic() + LONGEST_DELAY_SECONDS
            self._report(f"{child.name} cannot be started: {error}; trying again in {LONGEST_DELAY_SECONDS:.0f} s.")

    def _restart(self, child: _Child) -> None:
        any_port = child.name == "api" and self._settings.api_port == 0
        if any_port and free_port(self._settings.api_host, self._api_port) is None:  # taken meanwhile
            self._choose_port()
            self._describe()
        self._start(child)

    def _describe(self) -> None:
        self._lock.write(api_url=self.api_url, database=mask(self._database_url), services=list(self._commands))

    def _environment(self, service: str) -> dict[str, str]:
        # Logs of one machine are read by people; who collects them asks for JSON by name.
        log_format = "console" if self._settings.log_format == "auto" else self._settings.log_format
        ours = {"api_port": self._api_port, "log_format": log_format, "metrics_port": self.metrics_port(service)}
        settings = self._settings.model_copy(update=ours)
        return service_environment(settings, self._database_url)

    def _ended(self, child: _Child, status: int) -> None:
        child.process = None
        if status == EX_CONFIG:
            message = child.log.last[-1] if child.log.last else f"its log says why: {child.log.path}"
            raise ConfigurationError(f"A service cannot run as configured. {message}")
        now = time.monotonic()
        child.failures = 1 if now - child.started_at >= STABLE_AFTER_SECONDS else child.failures + 1
        if self._give_up_after is not None and child.failures >= self._give_up_after:
            words = "\n".join(f"  {line}" for line in child.log.last)
            raise ServiceFailedError(
                f"The service {child.name} ended {child.failures} times in a row ({_how(status)}). Its last words:\n"
                f"{words}\nAll of them: {child.log.path}"
            )
        delay = min(FIRST_DELAY_SECONDS * 2 ** (child.failures - 1), LONGEST_DELAY_SECONDS)
        child.restart_at = now + delay
        self._report(
            f"{child.name} ended unexpectedly ({_how(status)}); starting it again in {delay:g} s. Log: {child.log.path}"
        )

    def _is_ready(self, child: _Child) -> bool:
        if not self._is_running(child):
            return False
        if child.name == "api":
            return answers(f"{self.api_url}/health/ready")
        return is_alive(self._settings, child.name, since=child.begun)

    def _is_running(self, child: _Child) -> bool:
        return child.process is not None and child.process.poll() is None

    def _kill(self, child: _Child) -> None:
        assert child.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()

    def _follow(self, child: _Child) -> None:
        for line in child.log.lines():
            if self._show is not None:
                self._show(child.name, line)


class SupervisorLock:
    """``{data_dir}/supervisor.lock``: held by the one supervisor of the data directory."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.data_dir / "supervisor.lock"
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock; return False if another process holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        # Someone who only looks whether it is held (`read`) holds it for an instant.
        for _ in range(5):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file = file
                self.write()
                return True
            time.sleep(0.01)
        os.close(file)
        return False

    def write(self, **facts: Any) -> None:
        """Say who holds the lock. In place: a new file under this name would not be locked."""
        assert self._file is not None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps({"pid": os.getpid(), **facts}).encode() + b"\n", 0)

    def read(self) -> dict[str, Any] | None:
        """Return what the supervisor of the data directory says of itself, None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError):
                    content = json.loads(file.read())
                    return content if isinstance(content, dict) else {}
                return {}
        return None

    def holder(self) -> str:
        """Return a sentence that says who holds the lock."""
        pid = (self.read() or {}).get("pid", "unknown")
        return f"Another bowerbird command (process {pid}) already runs the services of {self._path.parent}."

    def release(self) -> None:
        """Give the lock up; harmless without it."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def base_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches an API that listens on ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  "all addresses" is none to connect to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str, wanted: int) -> int | None:
    """Return the port if it can be listened on, any free one for 0; None if it is taken.

    Raise :class:`ConfigurationError` if the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
            listener.listen()
        except (PermissionError, socket.gaierror) as error:
            raise ConfigurationError(f"The API cannot listen on {host}, port {wanted}: {error.strerror}.") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise ConfigurationError(
                f"The API cannot listen on {host} ({error.strerror}). BOWERBIRD_API_HOST must be an address of this "
                "machine: 127.0.0.1 for itself only, 0.0.0.0 for everyone."
            ) from error
        return int(listener.getsockname()[1])


def answers(url: str) -> bool:
    """Return whether a GET of the URL gives a good answer."""
    try:
        get(url).close()
    except OSError:
        return False
    return True


def get(url: str) -> Any:
    """GET a URL of our own API, past any proxy. Return the open response; raise OSError for anything but success."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)


def _how(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


@contextlib.contextmanager
def _counted_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of being interrupted by them: nothing may leave a half-done stop behind."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
