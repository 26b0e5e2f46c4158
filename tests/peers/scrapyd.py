"""A real Scrapyd, in an environment of its own, with the project of spider.py.

The environment is made from requirements.txt (tests/environments.py): Scrapy brings some forty packages.
"""

import contextlib
import io
import os
import signal
import subprocess
import zipfile
from pathlib import Path

import requests

from tests import backends, environments
from tests.waiting import eventually

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
PROJECT = "kingfisher"
SPIDER = "test_spider"
TIMEOUT_SECONDS = 10
CONFIGURATION = """
[scrapyd]
http_port = {port}
bind_address = 127.0.0.1
username = {username}
password = {password}
poll_interval = 0.1
max_proc = 2
eggs_dir = {directory}/eggs
logs_dir = {directory}/logs
dbs_dir = {directory}/dbs
"""


def python() -> str:
    """Return the Python that has Scrapyd, made if need be."""
    return environments.python("scrapyd", REQUIREMENTS)


def egg() -> bytes:
    """Return the project as Scrapyd wants it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("EGG-INFO/PKG-INFO", "Metadata-Version: 1.0\nName: crawler\nVersion: 1\n")
        archive.writestr("EGG-INFO/entry_points.txt", "[scrapy]\nsettings = crawler.settings\n")
        archive.writestr("crawler/__init__.py", "")
        archive.writestr("crawler/settings.py", "BOT_NAME = 'crawler'\nSPIDER_MODULES = ['crawler.spiders']\n")
        archive.writestr("crawler/spiders/__init__.py", (HERE / "spider.py").read_text())
    return buffer.getvalue()


class Scrapyd:
    """A running server, which can be killed and started again: its data stays, what it remembers does not."""

    def __init__(self, directory, *, username="", password=""):
        self.directory = directory
        directory.mkdir()
        (self.port,) = backends.free_ports(1)
        login = f"{username}:{password}@" if username else ""
        self.url = f"http://{login}127.0.0.1:{self.port}"
        text = CONFIGURATION.format(port=self.port, directory=directory, username=username, password=password)
        (directory / "scrapyd.conf").write_text(text)
        self._process = None
        self._groups = []  # of processes that were started, and of the crawls that these started
        self.start()
        answer = self.ask("POST", "addversion.json", data={"project": PROJECT, "version": "1"}, files={"egg": egg()})
        assert answer.get("spiders") == 1, answer

    def start(self):
        with (self.directory / "output").open("a") as output:
            self._process = subprocess.Popen(
                [python(), "-m", "scrapyd"],
                cwd=self.directory,
                stdout=output,
                stderr=output,
                env={**os.environ, "NO_PROXY": "*"},
                start_new_session=True,
            )
        self._groups.append(self._process.pid)
        eventually(self._answers, seconds=60, what=f"Scrapyd on port {self.port}; see {self.directory}/output")

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"Scrapyd did not start:\n{(self.directory / 'output').read_text()[-3000:]}")
        try:
            return requests.get(f"{self.url}/daemonstatus.json", timeout=1).ok
        except requests.ConnectionError:
            return False

    def ask(self, method, path, **options):
        return requests.request(method, f"{self.url}/{path}", timeout=60, **options).json()

    def state(self, job):
        return self.ask("GET", "status.json", params={"project": PROJECT, "job": job})["currstate"]

    def jobs(self):
        found = self.ask("GET", "listjobs.json", params={"project": PROJECT})
        return {state: [job["id"] for job in found[state]] for state in ("pending", "running", "finished")}

    def log_path(self, job):
        return self.directory / "logs" / PROJECT / SPIDER / f"{job}.log"

    def kill(self):
        """Kill it. The crawls that it started go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_SECONDS)
            self._process = None

    def kill_crawls(self):
        """Kill it and all crawls that it ever started."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.kill()

    close = kill_crawls
