"""The figures of docs/performance.md: ``python -m bench [small|full] [name …]``, or ``make bench ARGS=small``.

Runs the benchmarks one after another (all there are, or those named), prints a table, keeps everything that was
measured in bench/results/latest.json, and, if all of them were run, puts the table into docs/performance.md. One that
fails is told, and the others go on. Exits 1 if a target is missed or a benchmark failed.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from bench.measure import Result, Spread
from tests import backends

NAMES = ("collect", "export", "flatten", "scheduler", "jobs", "api")
SIZES = ("small", "full")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "latest.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEADINGS = ("what", "median", "from – to", "of", "target", "met", "peak memory, MB")


def machine() -> dict[str, Any]:
    """Return where it is measured."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "Python": platform.python_version(),
        "PostgreSQL": _postgres_version(),
        "RabbitMQ": _rabbitmq_version(),
    }


def _postgres_version() -> str:
    with backends.postgres() as url, contextlib.closing(psycopg2.connect(url)) as connection:
        return ".".join(map(str, divmod(connection.server_version, 10_000)))


def _rabbitmq_version() -> str:
    try:
        with backends.rabbitmq() as url:
            return backends.rabbitmq_version(url)
    except pytest.skip.Exception:
        return "none"


def measure(names: Sequence[str], size: str) -> tuple[dict[str, list[Result]], dict[str, str]]:
    """Run benchmarks; return the results of each, and why others failed."""
    results, failures = {}, {}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            results[name] = importlib.import_module(f"bench.{name}").run(size)
        except (Exception, pytest.skip.Exception) as error:  # noqa: BLE001  the others go on
            traceback.print_exc()
            failures[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return results, failures


def table(results: dict[str, list[Result]], failures: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield _row(HEADINGS)
    yield _row("---" for _ in HEADINGS)
    for name, found in results.items():
        for result in found:
            peaks = ", ".join(f"{process} {peak:.0f}" for process, peak in result.peak_mb.items())
            met = {True: "yes", False: "**no**", None: ""}[result.met]
            yield _row([f"{name}: {result.what}", *_figures(result.ratio), result.of, result.target, met, peaks])
    for name, reason in failures.items():
        yield _row([f"{name}: failed: {reason.splitlines()[0]}", *[""] * (len(HEADINGS) - 2), ""])


def _row(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _figures(spread: Spread) -> tuple[str, str]:
    return f"{spread.median:.3g}", f"{spread.low:.3g} – {spread.high:.3g}"


def publish(lines: list[str]) -> None:
    """Put the table between the two markers of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))


def main() -> int:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and tell.")
    parser.add_argument("size", nargs="?", default="small", choices=SIZES, help="some minutes in all, or much longer")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(NAMES)} (all)")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    facts, measured = machine(), datetime.now(UTC).date().isoformat()
    results, failures = measure(options.names or NAMES, options.size)
    where = ", ".join(f"{name} {value}" for name, value in facts.items())
    lines = [f"Measured on {measured} (`make bench ARGS={options.size}`): {where}.", "", *table(results, failures)]
    print("\n".join(lines))
    RESULTS.parent.mkdir(exist_ok=True)
    found = {name: [dataclasses.asdict(result) for result in each] for name, each in results.items()}
    kept = {"measured": measured, "size": options.size, "machine": facts, "results": found, "failures": failures}
    RESULTS.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    if not options.names:
        publish(lines)
    missed = any(result.met is False for each in results.values() for result in each)
    return 1 if missed or failures else 0


if __name__ == "__main__":
    sys.exit(main())
