"""Fixtures of tests that run commands."""

import os

import pytest
from typer.testing import CliRunner

from shared.cli.app import app
from shared.settings import PREFIX


@pytest.fixture
def environment(settings, monkeypatch):
    """The test's settings as this process's environment; returned for others."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def call(environment, sessions):
    """Run a command in this process, on empty tables; ``say`` is what a person answers."""

    def run(*arguments, status=0, say=None):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=say)
        assert result.exit_code == status, result.output
        return result

    return run
