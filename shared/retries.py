"""How often, and after which delays, units are tried: by task type, as an operator writes it.

    collect:attempts=8,base=5s,cap=2h;flatten:attempts=3

For each task type, separated by ``;``: its name, ``:``, and some of three words, separated by ``,``. Times are seconds,
or have a unit: ``s``, ``m``, ``h``. JSON would be as exact, but nobody writes it into a line of an environment file.
"""

import functools
import re
from dataclasses import dataclass

from shared.tasks import TASKS

DEFAULT_RETRIES = "collect:attempts=8,base=5s;flatten:attempts=3"
"""``collect`` depends on other people's servers, which are down for an hour rather than for a minute: with these delays
(5 s, 20 s, 80 s, 5 min, 21 min, 1 h, 1 h, of each half by chance) it is tried for one to two and a half hours. What can
fail for a while in ``flatten`` is disk and memory; it takes longest, and the third time memory is short it stays so."""
WORDS = ("attempts", "base", "cap")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)(s|m|h|)")


@dataclass(frozen=True)
class RetryPolicy:
    """Of one task type: how often it is tried, the delay before the second attempt, the longest delay."""

    attempts: int
    base_seconds: float
    cap_seconds: float


@functools.lru_cache(maxsize=16)
def parse_retries(text: str) -> dict[str, dict[str, float]]:
    """Return task type → word → value; times in seconds. Raise ValueError with a sentence that names what is wrong."""
    policies: dict[str, dict[str, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        task_type, separator, words = (piece.strip() for piece in part.partition(":"))
        if not separator or not words:
            raise ValueError(f"{part!r} has no words: write it as in collect:attempts=8,base=5s,cap=2h")
        if task_type not in TASKS:
            raise ValueError(f"there is no task type {task_type!r}; there are {', '.join(TASKS)}")
        if task_type in policies:
            raise ValueError(f"{task_type} is there twice")
        policies[task_type] = _words(task_type, words)
    return policies


def _words(task_type: str, text: str) -> dict[str, float]:
    words: dict[str, float] = {}
    for part in text.split(","):
        word, _, value = (piece.strip() for piece in part.partition("="))
        if word not in WORDS:
            raise ValueError(f"{word!r} is no word for {task_type}; there are {', '.join(WORDS)}")
        if word in words:
            raise ValueError(f"{task_type} has {word} twice")
        words[word] = _attempts(task_type, value) if word == "attempts" else _seconds(task_type, word, value)
    return words


def _attempts(task_type: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", value) or int(value) < 1:
        raise ValueError(f"attempts of {task_type} must be a whole number from 1 to 9999, and not {value!r}")
    return int(value)


def _seconds(task_type: str, word: str, value: str) -> float:
    match = _TIME.fullmatch(value)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{word} of {task_type} must be a time such as 30, 30s, 5m or 2h, and not {value!r}")
    return float(match[1]) * _SECONDS[match[2]]
