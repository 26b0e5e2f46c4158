"""A publication that gets worse is held back before anything is published, until somebody says otherwise."""

import json

import pytest
from sqlalchemy import select

from shared.db.models import Audit, Collection, Result
from shared.jobs import announce_job, restart_job
from shared.quality_report import get_report
from tests.e2e.suite import Suite

LOTS = "https://raw.githubusercontent.com/open-contracting-extensions/ocds_lots_extension/v1.1.5/extension.json"
OTHER = "https://example.org/ocds_riskAllocation_extension/v1/extension.json"


@pytest.fixture
def suite(settings, sessions, tmp_path):
    suite = Suite(settings, sessions, tmp_path / "logs")
    yield suite
    suite.close()


def package(*award_ids: str) -> str:
    """Return a package of one contracting process for each award id that a contract names; the award there is is A."""
    releases = [
        {
            "ocid": f"ocds-213czf-{number}",
            "id": f"{number}",
            "date": "2024-01-01T00:00:00Z",
            "tag": ["contract"],
            "initiationType": "tender",
            "awards": [{"id": "A"}],
            "contracts": [{"id": "C", "awardID": award_id, "value": {"amount": 5, "currency": "EUR"}}],
        }
        for number, award_id in enumerate(award_ids)
    ]
    return json.dumps({"uri": "u", "extensions": [LOTS, OTHER], "releases": releases})


def active_job(sessions, name):
    with sessions() as session:
        return session.scalar(select(Collection.active_job_id).where(Collection.source_id == name))


def test_too_many_failures_hold_a_job_back_before_it_is_published(suite, sessions, tmp_path):
    source = tmp_path / "releases.json"
    source.write_text(package("A", "A", "A", "Z"))
    name = suite.add(source, options={"quality_thresholds": {"references.awards": 0.75, "error": 0.1}})
    suite.start()

    first = suite.run(name)
    assert first.result == Result.OK
    assert first.quality.model_dump() == {"records": 4, "errors": 1, "warnings": 0, "infos": 0, "under_threshold": 0}
    assert active_job(sessions, name) == first.id
    (note,) = [note for task in first.tasks if task.type == "check" for note in task.notes]
    assert "riskAllocation" in note.note

    source.write_text(package("A", "A", "Y", "Z"))
    second = suite.run(name)
    assert second.result == Result.FAILED
    assert {task.type: task.result for task in second.tasks} == {
        "collect": Result.OK,
        "process": Result.OK,
        "check": Result.FAILED,
        "export": Result.SKIPPED,
        "coverage": Result.SKIPPED,
        "flatten": Result.SKIPPED,
    }
    why = next(task.note for task in second.tasks if task.type == "check")
    assert "references.awards: 2 of 4 contracts pass (50.0 %), under the threshold of 75 %" in why
    assert "for example ocds-213czf-2 /contracts/0/awardID" in why
    assert f"bowerbird job restart {second.id} --ignore-thresholds" in why
    assert '"Y"' not in why
    assert second.files == []
    assert not suite.export(second).directory.exists()
    assert active_job(sessions, name) == first.id
    assert suite.export(first).path("full.jsonl.gz").exists()
    with sessions() as session:
        shown = get_report(session, second.id)
        full = get_report(session, second.id, public_only=False)
    assert {check.id for check in shown.checks if check.under} == {"references.awards"}
    example = next(check for check in shown.checks if check.under).examples[0]
    assert (example.record, example.path, example.value) == ("ocds-213czf-2", "/contracts/0/awardID", None)
    assert next(check for check in full.checks if check.under).examples[0].value == '"Y"'

    with sessions.begin() as session:
        assert restart_job(session, second.id, actor="ada", ignore_thresholds=True) == "check"
    announce_job(suite.broker, second.id)
    passed = suite.wait(second.id)
    assert passed.result == Result.OK
    assert active_job(sessions, name) == second.id
    with sessions() as session:
        report = get_report(session, second.id)
        assert session.scalars(select(Audit.details).where(Audit.action == "job restart")).all() == [
            {"from_task": "check", "ignore_thresholds": True}
        ]
    assert report.thresholds_ignored
    assert next(check for check in report.checks if check.under).examples[0].value == '"Y"'
    assert report.extensions_checked == ["lots"]
    assert report.extensions_not_checked == ["riskAllocation"]

    assert suite.run(name).result == Result.FAILED, "what was let pass once is not for the next job"
