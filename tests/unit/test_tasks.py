"""The registration of task types: every dotted string leads somewhere."""

import pytest

from services.scheduler.managers import TaskManager
from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.tasks import TASKS, load, spec_of


@pytest.mark.parametrize("task_type", ["collect", "process", "export", "coverage", "flatten"])
def test_the_line_is_registered_and_planned(task_type):
    assert task_type in TASKS
    assert task_type in Settings().job_tasks_plan


@pytest.mark.parametrize("task_type", [name for name in TASKS if name != "test"])
def test_every_registration_resolves(task_type):
    spec = spec_of(task_type)
    assert callable(load(spec.handler))
    assert issubclass(load(spec.manager), TaskManager)
    assert spec.handler.startswith(f"services.{spec.service}.")


def test_an_unknown_task_type_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'exporter'\. Known: collect"):
        spec_of("exporter")
