"""The chaos run, short: each kind of disturbance about once, while some jobs run. ``make stress`` is the long one."""

import pytest

from tests.stress.run import Options, run


@pytest.mark.rabbitmq
@pytest.mark.timeout(600)
def test_whatever_is_killed_frozen_or_restarted_every_job_ends_as_if_nothing_had_been(capsys):
    report = run(Options(jobs=12, large=1, workers=2, disturbances=12, pause_seconds=1, seed=1))
    with capsys.disabled():
        print(f"\n{report}")
    assert report.violations == []
