"""The command line without a database: arguments, help, settings, texts and numbers for people."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from shared.cli.app import app
from shared.cli.errors import CommandError, in_words
from shared.cli.output import cell, duration, printable, size
from shared.cli.publish import deliver
from shared.exports import Export
from shared.publications import (
    InvalidCollectionError,
    check_frequency,
    check_name,
    check_plan,
    resolve_source,
    slug,
    suggest_name,
)

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("demo", "up", "publish"),
    *("add", "run", "collections", "jobs", "job", "files"),
    *("status", "migrate", "settings", "dead", "pause", "resume", "replay", "key", "delete-jobs"),
    *("scheduler", "collector", "processor", "exporter", "flattener", "api"),
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    """No settings but a data directory of the test's own: nothing here may touch the user's."""
    for name in [name for name in os.environ if name.startswith("BOWERBIRD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOWERBIRD_DATA_DIR", str(tmp_path / "data"))


def call(*arguments):
    return CliRunner().invoke(app, arguments)


# Help and arguments


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: bowerbird {name}" in result.output


def test_help_lists_every_command():
    output = call("--help").output
    assert all(f" {name} " in output for name in COMMANDS)


def test_help_imports_nothing_heavy():
    """What makes ``--help`` quick, told without a clock."""
    heavy = {"sqlalchemy", "psycopg2", "pydantic_settings", "pika", "fastapi", "structlog"}
    code = (
        "import sys\nfrom shared.cli import main\nsys.argv = ['bowerbird', '--help']\n"
        f"try:\n    main()\nexcept SystemExit: pass\nprint(*sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("publish",),
        ("add", "name"),
        ("job", "seven"),
        ("jobs", "--limit", "0"),
        ("status", "--watch", "--json"),
        ("migrate", "--down"),
    ],
)
def test_a_wrong_call_has_status_2(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr
    assert result.stdout == ""


def test_a_name_that_breaks_the_rule_is_told_the_rule_and_one_that_keeps_it(tmp_path):
    result = call("add", "Compras Públicas", str(tmp_path))
    assert result.exit_code == 2
    assert "lower-case letters a to z, digits, '-' and '_'" in result.stderr
    assert "For example: compras-publicas." in result.stderr


@pytest.mark.parametrize("command", [("add", "name"), ("publish",)])
def test_a_path_that_does_not_exist_is_an_error_at_once(command, tmp_path):
    result = call(*command, str(tmp_path / "missing.json"))
    assert result.exit_code == 2
    assert "no file or directory" in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_directory_that_is_not_empty_is_not_published_into(tmp_path):
    source, out = tmp_path / "releases.json", tmp_path / "out"
    source.write_text("{}")
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    result = call("publish", str(source), "--out", str(out))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert not (tmp_path / "data").exists()


# Settings


def test_the_page_of_settings_is_what_the_command_prints():
    result = call("settings", "--markdown")
    assert result.exit_code == 0
    assert result.stdout == (ROOT / "docs" / "settings.md").read_text()


def test_settings_say_what_is_in_effect_and_hide_passwords(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_DATABASE_URL", "postgresql://me:secret@db/bowerbird")
    monkeypatch.setenv("BOWERBIRD_API_PORT", "9000")
    rows = {row["variable"]: row for row in json.loads(call("settings", "--json").stdout)}
    assert rows["BOWERBIRD_DATABASE_URL"]["value"] == "postgresql://me:***@db/bowerbird"
    assert rows["BOWERBIRD_API_PORT"]["value"] == "9000"
    assert rows["BOWERBIRD_API_PORT"]["default"] == "8080"
    text = call("settings").stdout
    assert "postgresql://me:***@db/bowerbird" in text
    assert "secret" not in text


def test_a_wrong_setting_is_one_line_with_status_1(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_API_PORT", "many")
    result = call("settings")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: BOWERBIRD_API_PORT: ")
    assert result.stderr.count("\n") == 1


# Errors


def test_an_error_is_one_line_without_passwords(capsys):
    with pytest.raises(typer.Exit) as raised, in_words():
        raise CommandError("cannot reach amqp://me:secret@host")
    assert raised.value.exit_code == 1
    assert capsys.readouterr().err == "Error: cannot reach amqp://me:***@host\n"


def test_an_unforeseen_error_says_how_to_see_more_and_shows_it_if_asked(capsys, caplog):
    with pytest.raises(typer.Exit), in_words():
        raise KeyError("what")
    assert capsys.readouterr().err == ("Error: Unexpected KeyError: 'what' (BOWERBIRD_LOG_LEVEL=DEBUG shows where.)\n")
    caplog.set_level(logging.DEBUG)  # as command_settings() does with BOWERBIRD_LOG_LEVEL=DEBUG
    with pytest.raises(typer.Exit), in_words():
        raise KeyError("what")
    assert "Traceback" in capsys.readouterr().err


# Names and sources


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/releases-2020.json.gz", "releases-2020"),
        ("Compras Públicas (2024).jsonl", "compras-publicas-2024"),
        ("https://example.org/data/full.ZIP?token=1", "full"),
        ("https://data.example.org/", "data-example-org"),
        ("/data/..json", "collection"),
        ("数据.json", "collection"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_name_is_suggested_from_the_source(source, name):
    assert suggest_name(source) == name
    check_name(name)


def test_a_suggested_name_keeps_the_rule_also_where_it_is_cut():
    assert slug("a" * 99 + " b") == "a" * 99


@pytest.mark.parametrize("name", ["", "-x", "_x", "X", "a b", "a/b", "..", "x" * 101, "ñ", "a\n"])
def test_a_name_that_could_not_be_part_of_a_path_is_refused(name):
    with pytest.raises(InvalidCollectionError):
        check_name(name)


def test_a_relative_path_becomes_absolute_and_a_url_stays(tmp_path, monkeypatch):
    (tmp_path / "data.json").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve_source("data.json") == str(tmp_path / "data.json")
    assert resolve_source("https://example.org/x.json") == "https://example.org/x.json"


@pytest.mark.parametrize("source", ["ftp://example.org/x", "https://", "file:///etc/passwd", "s3://bucket/key"])
def test_an_address_that_cannot_be_collected_from_is_refused(source):
    with pytest.raises(InvalidCollectionError, match="no address to collect from"):
        resolve_source(source)


def test_frequencies_and_plans_are_checked():
    assert check_frequency("half-yearly") == "HALF_YEARLY"
    assert check_plan(["collect", "export"]) == ["collect", "export"]
    with pytest.raises(InvalidCollectionError, match="WEEKLY, BIWEEKLY"):
        check_frequency("daily")
    with pytest.raises(InvalidCollectionError, match="No such task type: 'expert'"):
        check_plan(["collect", "expert"])
    with pytest.raises(InvalidCollectionError, match="repeats"):
        check_plan(["collect", "collect"])


# Delivering


@pytest.fixture
def export(tmp_path):
    export = Export(tmp_path / "exports", "sample", 1)
    export.directory.mkdir(parents=True)
    for name in ("full.jsonl.gz", "2021.jsonl.gz", "manifest.json"):
        (export.directory / name).write_text(name)
    return export


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_files_and_manifest_are_delivered_without_taking_more_space(export, tmp_path):
    out = tmp_path / "out"
    deliver(export, ["full.jsonl.gz", "2021.jsonl.gz"], out)
    assert names(out) == ["2021.jsonl.gz", "full.jsonl.gz", "manifest.json"]
    assert (out / "full.jsonl.gz").samefile(export.directory / "full.jsonl.gz")


def test_files_are_copied_where_there_are_no_links(export, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    deliver(export, ["full.jsonl.gz"], tmp_path / "out")
    assert (tmp_path / "out" / "full.jsonl.gz").read_text() == "full.jsonl.gz"
    assert not (tmp_path / "out" / "full.jsonl.gz").samefile(export.directory / "full.jsonl.gz")


def test_delivering_again_replaces_what_was_published_and_nothing_else(export, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "1999.xlsx").write_text("of an earlier time")
    (out / "mine.txt").write_text("mine")
    for _ in range(2):  # the second time the files are links to the same ones already
        deliver(export, ["full.jsonl.gz"], out)
    assert names(out) == ["full.jsonl.gz", "manifest.json", "mine.txt"]


def test_files_that_another_machine_made_are_an_error_that_names_the_setting(export, tmp_path):
    with pytest.raises(CommandError, match="BOWERBIRD_EXPORT_DIR"):
        deliver(export, ["2050.jsonl.gz"], tmp_path / "out")
    assert names(tmp_path / "out") == []


# Texts and numbers for people


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (5 * 10**15, "5,000.0 TB")]
)
def test_sizes_for_people(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2449, "0.24 s"), (12.34, "12.3 s"), (245, "4 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


def test_nothing_printed_can_move_a_cursor_or_tell_a_password():
    assert printable("a\x1b[2Jb\nhttp://u:p@h") == "a�[2Jb\nhttp://u:***@h"
    assert cell("OK").style == "green"
    assert cell(12345).plain == "12,345"
