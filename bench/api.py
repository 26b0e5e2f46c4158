"""How fast is the read API, and does it stay so with a million jobs? ``make bench ARGS="small api"``.

A server process for each of some databases, which differ in how many jobs are over; and one of an endpoint of FastAPI
that does nothing but return the same bytes, on the same HTTP server. This process asks them in turn over kept-alive
connections, request by request, so that whatever else the machine does hits all of them alike: each round gives the
percentiles of its own. Requests a second are those of some clients at once.
"""

import contextlib
import http.client
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response

from bench.measure import Result, alternate, at_most, ratios
from services.api.__main__ import listen
from services.api.server import protocol
from shared.db import connect
from shared.db.migrate import upgrade
from shared.settings import Settings
from tests import backends
from tests.history import fill
from tests.waiting import eventually

COLLECTIONS = 1000
JOBS = {"small": (1_000, 100_000), "full": (1_000, 100_000, 1_000_000)}
ROUNDS = {"small": 3, "full": 10}
REQUESTS = {"small": 40, "full": 100}
"""Of each round, to each server."""
BURSTS = {"small": 1, "full": 3}
"""Rounds in which some clients ask at once."""
CLIENTS = 4
BURST = 25
"""Requests of each client in a round."""
LIMIT = 1.5


@dataclass(frozen=True)
class Site:
    """A server: what it is called, where it is, and the jobs that the public may read there, of all its jobs."""

    name: str
    port: int
    jobs: int = 0
    shown: tuple[int, ...] = ()


CASES: dict[str, Callable[[Site], str]] = {
    "jobs, first page": lambda _: "/jobs",
    "jobs, a later page": lambda site: f"/jobs?before={random.randrange(site.jobs // 2, site.jobs)}",
    "jobs, failed": lambda _: "/jobs?status=failed",
    "jobs, successful": lambda _: "/jobs?status=successful",
    "jobs, of a process": lambda _: "/jobs?processID=publish",
    "jobs, by duration": lambda _: "/jobs?minDuration=60&maxDuration=1200",
    "jobs, longer than": lambda _: "/jobs?minDuration=600",
    "a job": lambda site: f"/jobs/{random.choice(site.shown)}",
    "collections": lambda _: "/collections",
}
"""What is asked for. There is a full page of each among a thousand jobs."""


def run(size: str) -> list[Result]:
    """Measure every case."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(backends.postgres())
        sites = [stack.enter_context(served(server, jobs)) for jobs in JOBS[size]]
        bodies = {name: fetched(sites[-1], path(sites[-1])) for name, path in CASES.items()}
        bare = stack.enter_context(served_bare(bodies))
        return [measure(name, path, sites, bare, size) for name, path in CASES.items()]


def measure(name: str, path: Callable[[Site], str], sites: list[Site], bare: Site, size: str) -> Result:
    """Measure one case: the slowest request in a hundred with the most jobs, by the same with the fewest."""
    asked: dict[Site, Callable[[], str]] = {site: lambda site=site: path(site) for site in sites}
    asked[bare] = lambda: bare_path(name)
    p50, p99 = ({site.name: [] for site in asked} for _ in range(2))
    for _ in range(ROUNDS[size]):
        for site, seconds in in_turn(asked, REQUESTS[size]).items():
            p50[site.name].append(1000 * statistics.median(seconds))
            p99[site.name].append(1000 * statistics.quantiles(seconds, n=100)[98])
    rates = alternate(BURSTS[size], **{site.name: lambda site=site: rate(site, asked[site]) for site in asked})
    first, last = sites[0].name, sites[-1].name
    ratio = ratios(p99[last], p99[first])
    figures = {f"{site.name}, p50, ms": p50[site.name] for site in asked}
    figures |= {f"{site.name}, p99, ms": p99[site.name] for site in asked}
    figures |= {f"{site.name}, requests/s": rates[site.name] for site in asked}
    figures["p50 by the fewest jobs' p50"] = ratios(p50[last], p50[first]).median
    figures["p50 by the bare endpoint's"] = ratios(p50[last], p50[bare.name]).median
    figures["requests/s of the bare endpoint by ours"] = ratios(rates[bare.name], rates[last]).median
    return Result(name, ratio, f"p99 at {last} by p99 at {first}", figures=figures, **at_most(ratio, LIMIT))


def in_turn(asked: dict[Site, Callable[[], str]], requests: int) -> dict[Site, list[float]]:
    """Send requests to each site in turn; return the seconds that each took."""
    seconds: dict[Site, list[float]] = {site: [] for site in asked}
    with contextlib.ExitStack() as stack:
        connections = {site: stack.enter_context(connected(site)) for site in asked}
        for _ in range(requests):
            for site, path in asked.items():
                seconds[site].append(ask(connections[site], path())[0])
    return seconds


def rate(site: Site, path: Callable[[], str]) -> float:
    """Return how many requests a second a site answers, of some clients at once."""
    ready = threading.Barrier(CLIENTS + 1)

    def client() -> None:
        with connected(site) as connection:
            ask(connection, path())
            ready.wait()
            for _ in range(BURST):
                ask(connection, path())

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return CLIENTS * BURST / (time.perf_counter() - begun)


@contextlib.contextmanager
def connected(site: Site) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection that has answered already."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    try:
        ask(connection, "/health/live" if site.jobs else bare_path("collections"))
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[float, bytes]:
    """Return how many seconds an answer took, and its body."""
    begun = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - begun
    if answer.status not in (200, 204):
        raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
    return took, body


def fetched(site: Site, path: str) -> bytes:
    """Return what a site answers."""
    with connected(site) as connection:
        return ask(connection, path)[1]


@contextlib.contextmanager
def served(server: str, jobs: int) -> Iterator[Site]:
    """Serve the API on a new database with so many jobs."""
    with backends.fresh_database(server) as url, tempfile.TemporaryDirectory(prefix="bowerbird-api-") as directory:
        upgrade(url)
        fill(url, collections=COLLECTIONS, jobs=jobs)
        [port] = backends.free_ports(1)
        environment = {
            "BOWERBIRD_DATABASE_URL": url,
            "BOWERBIRD_DATA_DIR": directory,
            "BOWERBIRD_API_PORT": str(port),
            "BOWERBIRD_API_READS_PER_MINUTE": "0",
        }
        log = (Path(directory) / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "services.api"], env={**os.environ, **environment}, stdout=log, stderr=log
        )
        site = Site(f"{jobs:,} jobs", port, jobs, shown_jobs(url))
        try:
            eventually(lambda: answers(site, "/health/ready"), seconds=60, what="the API")
            yield site
        finally:
            process.terminate()
            process.wait()
            log.close()


def shown_jobs(url: str) -> tuple[int, ...]:
    """Return the jobs with units and files that everyone may read."""
    connection = connect(url, application_name="bowerbird bench")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT file.job_id FROM file JOIN job ON job.id = file.job_id "
            "JOIN collection ON collection.id = job.collection_id WHERE collection.public"
        )
        found = tuple(row[0] for row in cursor)
    connection.close()
    return found


def answers(site: Site, path: str) -> bool:
    """Return whether a site answers well."""
    try:
        fetched(site, path)
    except (OSError, RuntimeError):
        return False
    return True


# The bare endpoint


def bare_path(name: str) -> str:
    """Return where the bytes of a case are."""
    return f"/{list(CASES).index(name)}"


@contextlib.contextmanager
def served_bare(bodies: dict[str, bytes]) -> Iterator[Site]:
    """Serve the bytes of each case, and do nothing else."""
    [port] = backends.free_ports(1)
    process = multiprocessing.get_context("spawn").Process(target=serve_bare, args=(port, list(bodies.values())))
    process.start()
    site = Site("bare FastAPI", port)
    try:
        eventually(lambda: answers(site, "/0"), seconds=60, what="the bare endpoint")
        yield site
    finally:
        process.terminate()
        process.join()


def serve_bare(port: int, bodies: list[bytes]) -> None:
    """Be the process of the bare endpoint. Its function is called in a thread, as ours are."""
    app = FastAPI(openapi_url=None)

    @app.get("/{number}")
    def read(number: int) -> Response:
        return Response(bodies[number], media_type="application/json")

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, http=protocol(Settings()), ws="none"
    )
    uvicorn.Server(config).run(sockets=[listen("127.0.0.1", port)])
