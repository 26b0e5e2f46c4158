"""How everything here is measured: two ways of doing the same, turn by turn in one run, told as a ratio.

A machine's speed changes from hour to hour and from machine to machine; the ratio of two things done right after each
other changes far less. A benchmark is a module with a function ``run(size)`` that returns :class:`Result` objects.
"""

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The median of some figures, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: list[float]) -> "Spread":
        """Sum up figures."""
        return cls(statistics.median(figures), min(figures), max(figures))


@dataclass
class Result:
    """One line of the table.

    :param what: what was measured, on how much data.
    :param ratio: the figure that a target is about: how many times something, of pairs measured one after the other.
    :param of: what the ratio is of, in words: "the old way's time by ours".
    :param target: in words, "≥ 10"; empty: there is none.
    :param met: whether the median is within the target; None where there is none.
    :param figures: what else is worth keeping, by name with its unit ("ours, s"); lists are of each round.
    :param peak_mb: peak resident memory of each process, by its name.
    """

    what: str
    ratio: Spread
    of: str
    target: str = ""
    met: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One call in a process of its own: what it returned, seconds, and the process's peak resident memory."""

    value: Any
    seconds: float
    peak_mb: float


def at_least(ratio: Spread, limit: float) -> dict[str, Any]:
    """Return the members ``target`` and ``met`` of a result that is to be large."""
    return {"target": f"≥ {limit:g}", "met": ratio.median >= limit}


def at_most(ratio: Spread, limit: float) -> dict[str, Any]:
    """Return the members ``target`` and ``met`` of a result that is to be small."""
    return {"target": f"≤ {limit:g}", "met": ratio.median <= limit}


def alternate(rounds: int, **ways: Callable[[], Any]) -> dict[str, list[Any]]:
    """Call each way in turn, for some rounds, every second round in reverse; return what each returned, by its name."""
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(ways[name]())
    return found


def ratios(above: list[float], below: list[float]) -> Spread:
    """Return the spread of the ratios of pairs."""
    return Spread.of([one / other for one, other in zip(above, below, strict=True)])


def peak_mb(process: int | str = "self") -> float:
    """Return the peak resident memory of a process in megabytes; 0 where the system does not tell.

    getrusage(2) would not do: a process inherits the peak of the one that it was forked from.
    """
    with contextlib.suppress(OSError):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return round(int(fields["VmHWM"].split()[0]) / 1024, 1)
    return 0.0


def apart(function: Callable[..., Any], *arguments: Any) -> Run:
    """Call a function of a module in a new process. Its time leaves out the process's start and its imports."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        run, error = receiver.recv()
    except EOFError:
        run, error = None, f"{function.__name__} ended without an answer"
    process.join()
    if run is None:
        raise RuntimeError(error)
    return run


def _call(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    start = time.perf_counter()
    try:
        value = function(*arguments)
        seconds = time.perf_counter() - start
        answer = Run(value, seconds, peak_mb()), ""
    except Exception as error:  # noqa: BLE001  told to the parent
        answer = None, f"{function.__name__}: {error!r}"
    sender.send(answer)
