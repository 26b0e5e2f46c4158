"""The harness itself: what it says of a service must be true, or nobody believes what it says of the suite."""

import random
import sys
import time

import pytest

from tests.stress import line as line_module
from tests.stress.line import STOP_SECONDS, Line
from tests.waiting import eventually


@pytest.fixture
def line(settings, tmp_path, monkeypatch):
    """A line whose places are all empty, and stay so."""
    monkeypatch.setattr(line_module, "RESTART_SECONDS", (3600, 3600))
    line = Line(settings, workers=1, logs=tmp_path / "logs", chance=random.Random(1))
    for member in line.members:
        member.start_at = float("inf")
    yield line
    line.close()


def test_a_service_that_stopped_just_in_time_is_not_called_late_while_its_place_is_empty(line):
    member = line.members[0]
    member.begin([sys.executable, "-c", "pass"], {})
    member.terminated_at = time.monotonic() - STOP_SECONDS - 1
    eventually(lambda: member.process.poll() is not None)
    line.tend()
    assert member.process is None
    line.tend()
    assert line.violations == []
