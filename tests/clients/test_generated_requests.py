"""Requests made up from the API's description, possible ones and others: each is answered as the description says.

schemathesis makes them up. What it may not find: a status of 500 or above, a status, content type, header or body that
is not described, a request that is taken and should be refused, be it for its values or for want of a key.
"""

import subprocess
import textwrap
from pathlib import Path

import httpx
import pytest

from shared.db.models import KeyScope
from tests import environments
from tests.clients import sample
from tests.clients.serving import served

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
SEED = 20260302
EXAMPLES = 10
"""Random requests an operation, beside those that visit the edges of each parameter, which are always the same."""

EVERYWHERE, EDGES = "examples,fuzzing", "coverage"
"""Phases of schemathesis. The edges of each parameter are met as nobody and as admin: the other scopes see, and may do,
part of what admin does."""


@pytest.fixture
def served_sample(settings, sessions, database_url):
    """The address of an API with a sample, and a key of each scope."""
    with sessions.begin() as session:
        keys = sample.fill(session, settings)
    unlimited = {f"api_{name}_per_minute": 10**6 for name in ("reads", "actions", "wrong_keys")}
    with served(settings.model_copy(update=unlimited), database_url) as url:
        yield url, keys


@pytest.mark.parametrize(
    ("scope", "phases"),
    [*((scope, EVERYWHERE) for scope in (None, *KeyScope)), (None, EDGES), (KeyScope.ADMIN, EDGES)],
)
def test_what_is_asked_at_random_is_answered_as_described(served_sample, tmp_path, scope, phases):
    url, keys = served_sample
    python = environments.python("clients", REQUIREMENTS)
    document = tmp_path / "openapi.json"  # which takes a busy machine longer to make than schemathesis waits
    document.write_bytes(httpx.get(f"{url}/openapi.json", timeout=120).raise_for_status().content)
    command = [str(Path(python).parent / "st"), "--config-file", str(CONFIGURATION), "run", str(document), "--url", url]
    command += ["--exclude-path-regex", "/events$"]  # streams, which have no end: tests/integration/test_streams.py
    command += ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--phases", phases]
    command += ["--generation-database", "none", "--no-color", "--warnings", "off", "--continue-on-failure"]
    if scope is not None:
        command += ["--header", f"Authorization: Bearer {keys[scope]}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280)
    assert run.returncode == 0, shown(run.stdout) + shown(run.stderr)


def shown(report):
    """Return a report for people: made-up values can be as large as a body may be."""
    return "\n".join(textwrap.shorten(line, 500) for line in report.splitlines())
