"""The page that says what a Data Registry's operator gets here names tests and commands that exist."""

import re
from pathlib import Path

import pytest
import typer

from shared.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "registry-parity.md").read_text()
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


def commands(group, *names):
    """Yield the names of all commands, as they are typed."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join([*names, name])


def test_every_test_it_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 60
    assert named - TESTS == set()


def test_every_ability_says_how_it_was_checked_or_why_it_is_not_there():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count(" | ") >= 3]
    assert len(rows) > 60
    unchecked = [row for row in rows if "`test" not in row and not row.startswith(("| ability", "| ---"))]
    reasons = ("no", "*not yet*", "remote task managers", "services of the same names")
    for row in unchecked:
        assert row.split(" | ")[1].startswith(reasons), row


@pytest.mark.parametrize("page", ["registry-parity.md", "registry-import.md", "operations.md"])
def test_every_command_it_names_exists(page):
    known = set(commands(typer.main.get_command(app)))
    groups = {name.split()[0] for name in known if " " in name}
    text = (ROOT / "docs" / page).read_text()
    for words in re.findall(r"`bowerbird ([a-z-]+(?: [a-z-]+)?)", text):
        first = words.split()[0]
        assert first in known or words in known or first in groups, words
