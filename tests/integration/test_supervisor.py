"""The supervisor, with small programs in the place of services: what starts, dies, hangs, and is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared import supervisor as module
from shared.errors import ConfigurationError
from shared.health import heartbeat_path
from shared.settings import Settings
from shared.supervisor import ServiceFailedError, Supervisor, SupervisorLock
from tests.disks import small_disk

URL = "postgresql://user:secret@nowhere/none"

# Notes its process id, then waits; on SIGTERM it says goodbye.
PATIENT = """
import os, signal, sys, time
def end(*_):
    print("goodbye", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
while True:
    time.sleep(0.05)
"""

# Notes a SIGTERM and does not end, and neither does its child; both process ids are noted.
STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1] + ".told").touch())
if os.fork():
    time.sleep(0.1)
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
while True:
    time.sleep(0.05)
"""


def program(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def until(condition, *, seconds=30.0):
    """Wait for a fact; return it."""
    deadline = time.monotonic() + seconds
    while not (fact := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return fact


def exists(pid):
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pids(path, count):
    """Wait until so many process ids are noted; return them."""
    return until(lambda: noted if len(noted := noted_pids(path)) >= count else None)


def noted_pids(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", api_port=0, grace_seconds=5)


@pytest.fixture
def reports():
    return []


@pytest.fixture
def supervise(settings, reports):
    def make(**options):
        return Supervisor(settings, URL, report=reports.append, **options)

    return make


def tend_until(supervisor, condition):
    def turn():
        supervisor.tend()
        return condition()

    return until(turn)


def test_a_service_that_is_killed_is_started_again_and_that_is_reported(supervise, reports, tmp_path):
    with supervise(services={"exporter": program(PATIENT, tmp_path / "pids")}) as supervisor:
        (first,) = pids(tmp_path / "pids", 1)
        os.kill(first, signal.SIGKILL)
        _, second = tend_until(supervisor, lambda: len(n := noted_pids(tmp_path / "pids")) == 2 and n)
        assert exists(second)
    assert not exists(second)
    assert len(reports) == 1
    assert "exporter ended unexpectedly (killed by signal 9)" in reports[0]


def test_each_service_answers_probes_on_a_port_of_its_own(settings, reports, tmp_path):
    code = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(os.environ.get("BOWERBIRD_METRICS_PORT", "none"))
while True:
    time.sleep(0.05)
"""
    places = {name: tmp_path / name for name in ("scheduler", "collector", "exporter")}
    commands = {name: program(code, place) for name, place in places.items()}
    for first, expected in ((9464, ["9464", "9465", "9466"]), (0, ["0", "0", "0"]), (None, ["none", "none", "none"])):
        chosen = settings.model_copy(update={"metrics_port": first})
        with Supervisor(chosen, URL, services=commands, report=reports.append) as supervisor:
            tend_until(supervisor, lambda: all(place.exists() and place.read_text() for place in places.values()))
        assert [place.read_text() for place in places.values()] == expected
        for place in places.values():
            place.unlink()


def test_a_service_that_dies_again_and_again_is_started_after_growing_delays_up_to_a_limit(
    supervise, reports, monkeypatch
):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.03)
    with supervise(services={"exporter": program("raise SystemExit(3)")}) as supervisor:
        tend_until(supervisor, lambda: len(reports) >= 4)
    assert [report.partition("again in ")[2].partition(" s.")[0] for report in reports[:4]] == [
        "0.01",
        "0.02",
        "0.03",
        "0.03",
    ]
    assert "exit status 3" in reports[0]


def test_a_command_for_one_job_gives_up_with_the_last_words_of_a_service_that_never_starts(supervise, monkeypatch):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.01)
    services = {"exporter": program("print('no such module'); raise SystemExit(1)")}
    with (
        pytest.raises(ServiceFailedError, match=r"exporter ended 3 times in a row(.|\n)*no such module"),
        supervise(services=services, give_up_after=3) as supervisor,
    ):
        tend_until(supervisor, lambda: False)


def test_a_service_that_is_wrongly_configured_ends_the_supervisor_with_its_message_and_the_others(
    supervise, reports, tmp_path
):
    services = {
        "collector": program(PATIENT, tmp_path / "pids"),
        "exporter": program("import sys; print('exporter: BOWERBIRD_X is wrong', file=sys.stderr); sys.exit(78)"),
    }
    with supervise(services=services) as supervisor:
        (other,) = pids(tmp_path / "pids", 1)
        with pytest.raises(ConfigurationError, match="exporter: BOWERBIRD_X is wrong"):
            tend_until(supervisor, lambda: False)
    assert not exists(other)
    assert reports == []


def test_stopping_lets_a_service_end_by_itself(supervise, tmp_path):
    lines = []
    services = {"exporter": program(PATIENT, tmp_path / "pids")}
    with supervise(services=services, show=lambda service, line: lines.append((service, line))):
        (pid,) = pids(tmp_path / "pids", 1)
    assert not exists(pid)
    assert lines == [("exporter", "goodbye")]


def test_what_does_not_end_in_time_is_killed_with_its_children(settings, reports, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STOP_MARGIN_SECONDS", 0.1)
    hasty = settings.model_copy(update={"grace_seconds": 0})
    services = {"exporter": program(STUBBORN, tmp_path / "pids")}
    with Supervisor(hasty, URL, services=services, report=reports.append):
        left = pids(tmp_path / "pids", 2)
    until(lambda: not any(exists(pid) for pid in left))
    assert reports == ["exporter did not stop in time; killing it."]


def test_a_data_directory_has_one_supervisor_at_a_time(supervise, settings, tmp_path):
    with supervise(services={"exporter": program(PATIENT, tmp_path / "pids")}):
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()}"), supervise(services={}):
            pass
        assert SupervisorLock(settings).read() == {
            "pid": os.getpid(),
            "api_url": None,
            "database": "postgresql://user:***@nowhere/none",
            "services": ["exporter"],
        }
    assert SupervisorLock(settings).read() is None
    with supervise(services={}):
        pass


def test_looking_at_the_lock_does_not_take_it(settings):
    lock = SupervisorLock(settings)
    assert lock.acquire()
    lock.release()
    assert SupervisorLock(settings).read() is None
    assert lock.acquire()
    lock.release()


def test_settings_and_the_database_reach_a_service_through_its_environment_alone(supervise, settings, tmp_path):
    code = "import json, os, sys, time; json.dump(dict(os.environ), open(sys.argv[1], 'w')); time.sleep(60)"
    with supervise(services={"exporter": program(code, tmp_path / "environment")}) as supervisor:
        child = supervisor._children["exporter"].process
        environment = until(lambda: read_json(tmp_path / "environment"))
        command = Path(f"/proc/{child.pid}/cmdline").read_text()
    assert environment["BOWERBIRD_DATABASE_URL"] == URL
    assert environment["BOWERBIRD_DATA_DIR"] == str(settings.data_dir)
    assert environment["BOWERBIRD_LOG_FORMAT"] == "console"
    assert "secret" not in command


def read_json(path):
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_text())


def test_a_service_is_ready_when_it_has_beaten_since_the_start(supervise, settings, tmp_path):
    path = heartbeat_path(settings, "exporter")
    path.parent.mkdir(parents=True)
    path.touch()  # left by an earlier run
    code = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
    code += "pathlib.Path(sys.argv[2]).touch()\ntime.sleep(60)"
    with supervise(services={"exporter": program(code, tmp_path / "go", path)}) as supervisor:
        assert supervisor.waiting_for() == ["exporter"]
        (tmp_path / "go").touch()
        until(lambda: supervisor.waiting_for() == [])


def test_logs_are_bounded_and_those_of_the_run_before_are_kept(supervise, settings, tmp_path, monkeypatch):
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True)
    (logs / "exporter.log").write_text("the run before\n")
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 1000)
    code = "import itertools, time\nfor n in itertools.count(): print('line', n, flush=True); time.sleep(0.001)"
    lines = []
    with supervise(services={"exporter": program(code)}, show=lambda _service, line: lines.append(line)) as supervisor:
        assert (logs / "exporter.log.1").read_text() == "the run before\n"
        tend_until(supervisor, lambda: len(lines) > 500)
        assert (logs / "exporter.log").stat().st_size < 20_000
        assert "line" in (logs / "exporter.log.1").read_text()
    assert lines[:3] == ["line 0", "line 1", "line 2"]


def test_a_full_disk_on_which_no_log_can_be_moved_aside_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 200_000)
    code = f"import sys, time\nprint('x' * 300_000, flush=True)\nopen({str(tmp_path / 'said')!r}, 'w')\ntime.sleep(60)"
    with small_disk(tmp_path / "disk", size="400k") as disk:
        settings = Settings(data_dir=disk.path / "data", api_port=0, grace_seconds=5)
        log, lines = settings.data_dir / "logs" / "exporter.log", []
        services = {"exporter": program(code)}
        show = {"show": lambda _service, line: lines.append(line)}
        with Supervisor(settings, URL, services=services, report=print, **show) as supervisor:
            until((tmp_path / "said").exists)
            disk.fill()
            tend_until(supervisor, lambda: lines)
            assert log.stat().st_size > 200_000, "there is no room to move it aside"
            disk.resize("2m")
            with log.open("a") as file:
                file.write("one more\n")
            tend_until(supervisor, lambda: log.stat().st_size == 0)
    assert [len(line) for line in lines] == [300_000, 8]


def test_a_service_that_cannot_be_started_again_now_is_started_later(
    supervise, reports, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.1)
    noted = tmp_path / "pids"
    with supervise(services={"exporter": program(PATIENT, noted)}) as supervisor:
        (first,) = pids(noted, 1)
        log = settings.data_dir / "logs" / "exporter.log"
        log.rename(log.with_suffix(".old"))
        log.symlink_to(tmp_path / "nowhere" / "exporter.log")  # nobody can open it
        os.kill(first, signal.SIGKILL)
        tend_until(supervisor, lambda: any("exporter cannot be started" in report for report in reports))
        log.unlink()
        tend_until(supervisor, lambda: len(noted_pids(noted)) == 2)


def test_a_port_in_use_is_named_with_the_setting_that_changes_it(settings, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fixed = settings.model_copy(update={"api_port": port})
        with (
            pytest.raises(ConfigurationError, match=rf"Port {port} .*BOWERBIRD_API_PORT"),
            Supervisor(fixed, URL, services={"api": program(PATIENT, tmp_path / "pids")}, report=print),
        ):
            pass
    assert SupervisorLock(settings).read() is None


def test_an_address_of_another_machine_is_named_with_the_setting(settings):
    elsewhere = settings.model_copy(update={"api_host": "192.0.2.1"})
    with (
        pytest.raises(ConfigurationError, match="BOWERBIRD_API_HOST"),
        Supervisor(elsewhere, URL, services={"api": program("")}, report=print),
    ):
        pass


def test_the_api_is_given_a_free_port_and_is_ready_when_it_answers(supervise, settings):
    code = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["BOWERBIRD_API_PORT"])), Handler).serve_forever()
"""
    with supervise(services={"api": program(code)}) as supervisor:
        tend_until(supervisor, lambda: supervisor.waiting_for() == [])
        assert SupervisorLock(settings).read()["api_url"] == supervisor.api_url
        before = supervisor.api_url
        assert not before.endswith(":0")
        supervisor._children["api"].process.kill()
        tend_until(supervisor, lambda: supervisor._children["api"].failures == 1 and supervisor.waiting_for() == [])
        assert supervisor.api_url == before


def test_the_api_moves_to_another_port_if_its_own_is_taken_while_it_is_down(supervise, settings, tmp_path):
    with supervise(services={"api": program(PATIENT, tmp_path / "pids")}) as supervisor:
        (first,) = pids(tmp_path / "pids", 1)
        before = supervisor.api_url
        with socket.create_server(("127.0.0.1", int(before.rpartition(":")[2]))):
            os.kill(first, signal.SIGKILL)
            tend_until(supervisor, lambda: len(noted_pids(tmp_path / "pids")) == 2)
        assert supervisor.api_url != before
        assert SupervisorLock(settings).read()["api_url"] == supervisor.api_url


# The supervisor as a process of its own, to be killed.
SUPERVISING = """
import sys, time
from pathlib import Path
from shared.cli.errors import in_words
from shared.settings import Settings
from shared.supervisor import Supervisor
data_dir, pids, code = sys.argv[1:]
services = {name: [sys.executable, "-c", code, pids] for name in ("collector", "exporter")}
with in_words(), Supervisor(Settings(data_dir=data_dir), "postgresql://x/y", services=services, report=print) as it:
    while True:
        it.tend()
        time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_services_end_with_their_supervisor_however_it_ends(number, settings, tmp_path):
    command = program(SUPERVISING, settings.data_dir, tmp_path / "pids", PATIENT)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        children = pids(tmp_path / "pids", 2)
        process.send_signal(number)
        process.wait(30)
    until(lambda: not any(exists(pid) for pid in children))
    # Told to end, not killed:
    logs = [(settings.data_dir / "logs" / f"{name}.log").read_text() for name in ("collector", "exporter")]
    assert logs == ["goodbye\n", "goodbye\n"]
    assert SupervisorLock(settings).read() is None


def test_a_second_signal_cuts_the_grace_short(settings, tmp_path):
    command = program(SUPERVISING, settings.data_dir, tmp_path / "pids", STUBBORN)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        children = pids(tmp_path / "pids", 4)

        process.send_signal(signal.SIGINT)
        until((tmp_path / "pids.told").exists)  # the supervisor is waiting for them now
        process.send_signal(signal.SIGINT)
        process.wait(15)  # the grace alone is 20 s
    until(lambda: not any(exists(pid) for pid in children))
