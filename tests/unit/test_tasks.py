"""The registration of task types: every dotted string leads somewhere."""

import pytest

from services.scheduler.managers import TaskManager
from shared.errors import ConfigurationError
from shared.settings import Settings, load_settings
from shared.tasks import TASKS, entry_of, load, resolve_plan, spec_of, specs_of


@pytest.mark.parametrize("task_type", ["collect", "process", "check", "export", "coverage", "flatten"])
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


# Backends

KINGFISHER = {"collect": "scrapyd", "process": "kingfisher-process", "export": "kingfisher-process"}
PLAN = Settings.model_fields["job_tasks_plan"].default
REMOTE_PLAN = tuple(f"{name}:{KINGFISHER[name]}" if name in KINGFISHER else name for name in PLAN)


def names(tasks):
    return [f"{task_type}:{spec.name}" for task_type, spec in tasks]


@pytest.mark.parametrize(("task_type", "spec"), [(name, spec) for name, spec in TASKS.items() if name != "test"])
def test_every_backend_resolves_and_shares_its_types_queue(task_type, spec):
    for name, backend in spec.backends.items():
        assert spec_of(task_type, name) is backend
        assert backend.name == name
        assert backend.service == spec.service
        assert callable(load(backend.handler))
        assert issubclass(load(backend.manager), TaskManager)
        assert backend.handler.startswith(f"services.{spec.service}.")
        assert not backend.errand or callable(load(backend.errand))
    assert {entry_of(task_type, name) for name in ("", *spec.backends)} <= specs_of(spec.service).keys()


def test_all_is_native_unless_it_is_chosen():
    assert names(resolve_plan(PLAN)) == [f"{name}:native" for name in PLAN]


def test_the_collections_choice_goes_before_the_settings():
    assert names(resolve_plan(REMOTE_PLAN)) == [f"{name}:{KINGFISHER.get(name, 'native')}" for name in PLAN]
    assert names(resolve_plan(PLAN, backends=KINGFISHER)) == names(resolve_plan(REMOTE_PLAN))
    assert names(resolve_plan(REMOTE_PLAN, backends=dict.fromkeys(KINGFISHER, "native"))) == names(resolve_plan(PLAN))
    own = ["collect", "process"]
    assert names(resolve_plan(REMOTE_PLAN, own_plan=own)) == ["collect:scrapyd", "process:kingfisher-process"]


def test_pelican_follows_kingfisher_process():
    plan = resolve_plan([*REMOTE_PLAN[:2], "pelican", *REMOTE_PLAN[2:]])
    assert names(plan)[2] == "pelican:pelican"


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (
            ("collect:scrapyd", "process"),
            r"keeps its records in Kingfisher Process, and process:native",
        ),
        (("collect", "process:kingfisher-process"), r"keeps its records in Bowerbird's own tables"),
        (("collect:scrapyd", "process:kingfisher-process", "export"), r"export:native reads Bowerbird's own tables"),
        (("process:kingfisher-process",), r"the plan has no collect before it"),
        (("export:kingfisher-process",), r"the plan has no process before it"),
        (("collect", "process", "pelican"), r"pelican:pelican reads Kingfisher Process"),
        (("pelican",), r"the plan has no process"),
        (("collect:spider",), r"collect has no backend 'spider'. Known: native, scrapyd"),
        (("flatten:scrapyd",), r"flatten has no backend"),
    ],
)
def test_what_does_not_go_together_is_refused_when_it_is_set(monkeypatch, plan, fault):
    with pytest.raises(ConfigurationError, match=fault):
        resolve_plan(plan)
    monkeypatch.setenv("BOWERBIRD_JOB_TASKS_PLAN", ",".join(plan))
    with pytest.raises(ConfigurationError, match=f"BOWERBIRD_JOB_TASKS_PLAN: .*{fault}"):
        load_settings()
