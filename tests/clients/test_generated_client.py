"""A client in Python, generated from the API's description by a program that was not made for it."""

import json
import subprocess
import warnings
from pathlib import Path

from services.api.app import create_app
from services.api.schemas import ATOM, RSS
from shared.exports import MEDIA_TYPES
from shared.settings import Settings
from tests import environments

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
CONFIGURATION = {
    "post_hooks": [],
    "content_type_overrides": dict.fromkeys([*MEDIA_TYPES.values(), ATOM, RSS], "application/octet-stream"),
}
"""Files and feeds are bytes; the code is not formatted, which takes longer than the rest."""


def test_a_client_is_generated_from_the_description_without_a_warning(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", public_url="https://data.example.org")
    document = create_app(settings, "postgresql://nobody@127.0.0.1:1/none").openapi()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "configuration.json").write_text(json.dumps(CONFIGURATION))
    command = [
        environments.python("clients", REQUIREMENTS),
        "-m",
        "openapi_python_client",
        "generate",
        "--fail-on-warning",
    ]
    command += [
        "--path",
        "openapi.json",
        "--config",
        "configuration.json",
        "--output-path",
        "client",
        "--fail-on-warning",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    modules = list((tmp_path / "client").rglob("*.py"))
    assert len(modules) > 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in modules:
            compile(module.read_text(), str(module), "exec")
    names = {module.stem for module in modules}
    assert {"get_job", "list_collections", "run_collection", "execute"} <= names
