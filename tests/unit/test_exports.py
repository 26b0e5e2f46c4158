"""Names and places of published files, lock files, the manifest."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from shared import exports
from shared.exports import Export, LockFile, lock_name, manifest, read_lock, replace_text, split_name


@pytest.fixture
def export(tmp_path):
    return Export(tmp_path / "exports", "sample", 7)


def lock(export, token, name="full.jsonl.gz"):
    return LockFile(export.lock_path(name), job=7, unit=1, attempt=1, token=token)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("full.jsonl.gz", ("full", "jsonl.gz")),
        ("undated.xlsx", ("undated", "xlsx")),
        ("0999.csv.tar.gz", ("0999", "csv.tar.gz")),
    ],
)
def test_a_name_is_a_segment_and_a_format(name, parts):
    assert split_name(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        "",
        "full",
        "999.jsonl.gz",
        "full.jsonl.gz\n",
        "٢٠٢١.xlsx",
        "../full.xlsx",
        "full.jsonl",
        "manifest.json",
        "12345.xlsx",
    ],
)
def test_any_other_name_is_refused(export, name):
    with pytest.raises(ValueError, match="no export file name"):
        export.path(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full.jsonl.gz", "exporter_full.jsonl.gz.lock"),
        ("2021.jsonl.gz", "exporter_full.jsonl.gz.lock"),
        ("2021.csv.tar.gz", "exporter_2021.csv.tar.gz.lock"),
        ("2021.xlsx", "exporter_2021.csv.tar.gz.lock"),
    ],
)
def test_files_made_together_share_a_lock(name, expected):
    assert lock_name(name) == expected


def test_only_published_files_are_listed(export):
    export.directory.mkdir(parents=True)
    for name in ("full.jsonl.gz", "2020.csv.tar.gz", "manifest.json", "README", "exporter_full.jsonl.gz.lock"):
        (export.directory / name).touch()
    export.attempt_directory(1, 2).mkdir()
    assert [path.name for path in export.paths()] == ["2020.csv.tar.gz", "full.jsonl.gz"]
    assert [path.name for path in export.convertible_paths()] == ["full.jsonl.gz"]


def test_a_job_without_files_has_none(export):
    assert list(export.paths()) == []
    assert list(export.attempt_directories(1)) == []


def test_removal_deletes_the_job_and_an_empty_collection(export):
    other = Export(export.root, "sample", 8)
    for one in (export, other):
        one.attempt_directory(1, 1).mkdir(parents=True)
    export.remove()
    assert not export.directory.exists()
    assert other.directory.exists()
    other.remove()
    assert list(export.root.iterdir()) == []


def test_removal_can_be_repeated(export):
    export.remove()
    export.remove()


def test_removal_tells_what_it_could_not_delete(export, monkeypatch):
    export.directory.mkdir(parents=True)

    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(PermissionError):
        export.remove()


def test_a_lock_file_says_who_works_and_since_when(export):
    assert lock(export, token=5).acquire() is None
    content = read_lock(export.lock_path("2021.jsonl.gz"))
    assert {key: content[key] for key in ("job", "unit", "attempt", "token", "pid")} == {
        "job": 7,
        "unit": 1,
        "attempt": 1,
        "token": 5,
        "pid": os.getpid(),
    }
    assert datetime.now(UTC) - datetime.fromisoformat(content["heartbeat"]) < timedelta(minutes=5)


def test_a_lock_file_left_behind_is_replaced_and_reported(export):
    lock(export, token=5).acquire()
    assert lock(export, token=6).acquire()["token"] == 5
    assert read_lock(export.lock_path("full.jsonl.gz"))["token"] == 6


def test_a_lock_is_released_by_its_owner_only(export):
    old, new = lock(export, token=5), lock(export, token=6)
    old.acquire()
    new.acquire()
    old.release()
    assert new.path.exists()
    new.release()
    assert not new.path.exists()
    new.release()


def test_a_late_heartbeat_neither_revives_a_lock_nor_takes_over_a_successors(export):
    old, new = lock(export, token=5), lock(export, token=6)
    old.acquire()
    old.release()
    old.beat()
    assert not old.path.exists()
    new.acquire()
    old.beat()
    assert read_lock(new.path)["token"] == 6


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_lock_file_that_is_not_ours_is_broken_too(export, content):
    one = lock(export, token=5)
    one.path.parent.mkdir(parents=True)
    one.path.write_bytes(content)
    assert one.acquire() == {}
    assert read_lock(one.path)["token"] == 5


def test_a_replaced_text_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "manifest.json"
    replace_text(path, "old")
    replace_text(path, "né")
    assert path.read_text(encoding="utf-8") == "né"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_manifest_lists_every_file_by_name():
    facts = {"size": 10, "records": 2, "sha256": "ab" * 32, "id": 99}
    text = manifest("sample", 7, [{"name": "full.jsonl.gz", **facts}, {"name": "2021.csv.tar.gz", **facts}])
    content = json.loads(text)
    generated = datetime.fromisoformat(content.pop("generated_at"))
    assert generated.utcoffset() == timedelta(0)
    expected = {"size": 10, "records": 2, "sha256": "ab" * 32}
    assert content == {
        "source_id": "sample",
        "job_id": 7,
        "files": [
            {"name": "2021.csv.tar.gz", "format": "csv", "segment": "2021", **expected},
            {"name": "full.jsonl.gz", "format": "jsonl", "segment": "full", **expected},
        ],
    }


def test_every_format_has_a_media_type():
    assert set(exports.MEDIA_TYPES) == {exports.JSONL, exports.CSV, exports.XLSX}
