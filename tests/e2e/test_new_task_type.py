"""A new task type costs one handler, one task manager and one line: exactly as docs/contributing.md says."""

import re
import shutil

import pytest
from sqlalchemy import text

from shared.sample import PACKAGES, facts
from tests.e2e.suite import ROOT, Suite


def code_blocks():
    """Return the Python code of the page: handler, manager, line."""
    page = (ROOT / "docs" / "contributing.md").read_text()
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture
def copy_with_the_task_type(tmp_path):
    """The project's code, changed as the page says."""
    root = tmp_path / "project"
    for package in ("services", "shared"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    handler, manager, line = code_blocks()
    (root / "services" / "processor" / "counting.py").write_text(handler)
    (root / "services" / "scheduler" / "managers" / "count.py").write_text(manager)
    registry = root / "shared" / "tasks.py"
    registry.write_text(registry.read_text().replace("] = {\n", "] = {\n    " + line, 1))
    return root


def test_the_page_adds_a_working_task_type(copy_with_the_task_type, settings, sessions, tmp_path):
    settings = settings.model_copy(update={"job_tasks_plan": ("collect", "process", "count")})
    suite = Suite(settings, sessions, tmp_path / "logs", root=copy_with_the_task_type)
    try:
        suite.start("scheduler", "collector", "processor")
        job_id = plan(sessions, suite.add(PACKAGES), settings.job_tasks_plan)
        job = suite.wait(job_id)
        assert [(task.type, task.result) for task in job.tasks][-1] == ("count", "OK")
        with sessions() as session:
            context = session.execute(text("SELECT context FROM job")).scalar()
        assert context["count"] == {"count": facts().ocids}
    finally:
        suite.close()


def plan(sessions, name, task_types):
    """Insert a job with its tasks by hand, since the test's own process does not know the type; return its id."""
    with sessions.begin() as session:
        job_id = session.execute(
            text("INSERT INTO job (collection_id) SELECT id FROM collection WHERE source_id = :name RETURNING id"),
            {"name": name},
        ).scalar()
        for order, task_type in enumerate(task_types, 1):
            session.execute(
                text('INSERT INTO task (job_id, type, "order") VALUES (:job, :type, :order)'),
                {"job": job_id, "type": task_type, "order": order},
            )
    return job_id
