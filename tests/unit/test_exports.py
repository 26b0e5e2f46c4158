"""Names and places of published files, lock files, the manifest."""

import contextlib
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from shared import exports
from shared.exports import MANIFEST, Export, LockFile, lock_name, manifest, read_lock, replace_text, split_name


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
        ("full.parquet.tar", ("full", "parquet.tar")),
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
    assert set(exports.MEDIA_TYPES) == {exports.JSONL, exports.CSV, exports.XLSX, exports.PARQUET}


# Made, and put in place


def facts(export, name, text, place=""):
    """Write a file, and return what its row says."""
    path = export.directory / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"name": name, "place": place, "size": len(text), "records": 1, "sha256": digest}


def put(export, *files, kept=(), confirm=lambda: None):
    return export.put_in_place(files, kept=kept, confirm=confirm)


def there(export):
    return sorted(str(path.relative_to(export.directory)) for path in export.directory.rglob("*") if path.is_file())


def told(export):
    return {file["name"]: file["sha256"] for file in json.loads((export.directory / MANIFEST).read_text())["files"]}


def test_an_attempts_files_are_kept_in_a_place_of_its_own(export):
    staging = export.attempt_directory(3, 17)
    staging.mkdir(parents=True)
    for name in ("made", "half"):
        (staging / name).write_text(name)
    place = export.keep(staging, 3, 17, [(staging / "made", "full.xlsx")])
    assert export.locate("full.xlsx", place).read_text() == "made"
    assert there(export) == [".attempt-3-17/half", ".made-3-17/full.xlsx"]


def test_an_attempt_whose_directory_was_deleted_keeps_nothing(export):
    export.directory.mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        export.keep(export.attempt_directory(3, 17), 3, 17, [])
    assert list(export.directory.iterdir()) == []


def test_files_get_their_names_others_go_and_the_manifest_tells_of_them(export):
    old = facts(export, "full.jsonl.gz", "old")
    facts(export, "2020.jsonl.gz", "not made any more")
    put(export, old)
    new = facts(export, "full.jsonl.gz", "new", ".made-1-2")
    facts(export, "full.xlsx", "of no row", ".made-1-1")
    assert put(export, new) == {"full.jsonl.gz"}
    assert there(export) == ["full.jsonl.gz", MANIFEST]
    assert export.path("full.jsonl.gz").read_text() == "new"
    assert told(export) == {"full.jsonl.gz": new["sha256"]}


def test_files_that_are_not_published_yet_stay_in_their_place(export):
    old = facts(export, "full.jsonl.gz", "old")
    facts(export, "full.jsonl.gz", "new", ".made-1-2")
    assert put(export, old, kept={".made-1-2"}) == {"full.jsonl.gz"}
    assert there(export) == [".made-1-2/full.jsonl.gz", "full.jsonl.gz", MANIFEST]


def test_what_is_in_order_is_not_touched(export):
    file = facts(export, "full.jsonl.gz", "text", ".made-1-2")
    put(export, file)
    before = (export.directory / MANIFEST).stat().st_ino
    put(export, {**file, "place": ""})
    assert (export.directory / MANIFEST).stat().st_ino == before
    (export.directory / MANIFEST).write_text("damaged")
    put(export, file)
    assert told(export) == {"full.jsonl.gz": file["sha256"]}


def test_the_manifest_is_away_while_it_would_not_be_true(export):
    put(export, facts(export, "full.jsonl.gz", "old"))
    new = facts(export, "full.jsonl.gz", "new", ".made-1-2")
    seen = []
    put(
        export,
        new,
        confirm=lambda: seen.append((export.path("full.jsonl.gz").read_text(), (export.directory / MANIFEST).exists())),
    )
    assert ("old", False) in seen
    assert all(content == "old" or not is_told for content, is_told in seen[:-1])


def test_a_file_that_is_nowhere_is_not_told_of(export):
    file = facts(export, "full.jsonl.gz", "text")
    lost = {**file, "name": "full.xlsx", "place": ".made-1-2"}
    shorter = {**facts(export, "2020.xlsx", "text"), "size": 5}
    assert put(export, file, lost, shorter) == {"full.jsonl.gz"}
    assert told(export).keys() == {"full.jsonl.gz"}


def test_without_a_directory_there_is_nothing_to_put_in_place(export):
    assert put(export) == set()
    assert not export.directory.exists()


@pytest.mark.parametrize("at", range(1, 4))
def test_who_was_frozen_while_another_put_files_in_place_changes_nothing(export, at):
    """At each confirmation of the first: a second one does it all, and a third with newer rows."""
    facts(export, "2020.jsonl.gz", "not made any more")
    first = facts(export, "full.jsonl.gz", "first", ".made-1-1")
    calls = []

    def freeze():
        calls.append(None)
        if len(calls) == at:
            put(export, first)
            put(export, facts(export, "full.jsonl.gz", "second", ".made-1-2"), facts(export, "2020.jsonl.gz", "anew"))

    with contextlib.suppress(FileNotFoundError):
        put(export, first, confirm=freeze)
    assert len(calls) >= at
    assert export.path("full.jsonl.gz").read_text() == "second"
    assert export.path("2020.jsonl.gz").read_text() == "anew"
    assert told(export).keys() == {"full.jsonl.gz", "2020.jsonl.gz"}
