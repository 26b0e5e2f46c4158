"""The file about processes: what it may say, what becomes of it, and what is said of a wrong one."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from shared.db.models import KeyScope
from shared.errors import ConfigurationError
from shared.processes import BUILT_IN
from shared.processes_file import offered, parse, read_file
from shared.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]


def read(text, **variables):
    return parse(text, variables, name="f.yml")


def fixed(text, **variables):
    """Return what a value of an input that takes several texts, or numbers, comes to."""
    return (
        read(f"resources:\n  x:\n    processor: {{name: echo}}\n    fixed:\n      {text}\n", **variables)
        .processes["x"]
        .fixed
    )


# Values and variables

NAMES = some.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
ODD = ("Cs", "Cc", "Cn", "Zl", "Zp")
TEXTS = some.text(some.characters(exclude_categories=ODD, exclude_characters="$"), max_size=99)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.lists(some.tuples(TEXTS, some.one_of(some.none(), some.tuples(NAMES, TEXTS))), max_size=9))
def test_a_text_in_quotes_has_each_variable_replaced_by_its_value_whatever_that_holds(parts):
    variables = dict(part for _, part in parts if part is not None)
    written = "".join(text + ("$$" if part is None else f"${{{part[0]}}}") for text, part in parts)
    meant = "".join(text + ("$" if part is None else variables[part[0]]) for text, part in parts)
    assert fixed(f"text: {json.dumps(written, ensure_ascii=False)}", **variables) == {"text": meant}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.one_of(TEXTS, some.just("")), some.text("abc -:/.", max_size=9))
def test_a_default_stands_for_a_variable_that_is_not_set_or_empty(value, default):
    text = f'text: "<${{A:-{default}}}>"'
    assert fixed(text) == {"text": f"<{default}>"}
    assert fixed(text, A=value) == {"text": f"<{value or default}>"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.one_of(some.integers(0, 60), some.decimals(0, 60, places=3)))
def test_a_value_without_quotes_is_what_the_filled_in_text_would_be(value):
    assert fixed("pause: ${P}", P=str(value)) == {"pause": float(value)}
    assert fixed("pause: ${P:-3}") == {"pause": 3}
    assert fixed('text: "${P}"', P=str(value)) == {"text": str(value)}
    assert fixed("fail: ${P}", P="true") == {"fail": True}


def test_values_are_those_of_json():
    assert fixed("text: 2026-01-31") == {"text": "2026-01-31"}
    assert fixed("numbers: [1, 2.5]") == {"numbers": [1, 2.5]}
    assert fixed("numbers: 1") == {"numbers": [1]}
    assert fixed("object: {name: a, value: 2}") == {"object": {"name": "a", "value": 2}}


def test_keys_are_taken_as_they_are_and_may_be_merged():
    text = "resources:\n  echo: &e {scope: read, title: E}\n  collect: {<<: *e, scope: admin}"
    found = read(text).processes["collect"]
    assert (found.title, found.scope) == ("E", KeyScope.ADMIN)


# What is offered


def test_what_a_file_does_not_name_stays_as_it_is():
    assert read("resources: {}").processes == BUILT_IN
    assert offered(Settings()) is BUILT_IN


def test_a_process_is_renamed_kept_for_some_or_turned_off():
    found = read(
        "resources:\n  echo: {title: Try, description: It., keywords: [a], scope: read, visible: operate}\n"
        "  flatten: {enabled: false}\n  publish: {type: process, processor: {name: publish}}"
    ).processes
    echo = found["echo"]
    assert (echo.title, echo.description, echo.keywords, echo.base) == ("Try", "It.", ("a",), "")
    assert (echo.scope, echo.visible) == (KeyScope.READ, KeyScope.OPERATE)
    assert list(found) == [name for name in BUILT_IN if name != "flatten"]
    assert found["publish"] == BUILT_IN["publish"]


def test_a_variant_is_its_base_with_inputs_fixed():
    text = "resources: {rivers: {processor: {name: publish}, title: Rivers, fixed: {collection: river_works}}}"
    found = read(text).processes
    assert list(found) == [*BUILT_IN, "rivers"]
    rivers, publish = found["rivers"], BUILT_IN["publish"]
    assert (rivers.id, rivers.kind, rivers.task, rivers.scope) == ("rivers", "publish", publish.task, publish.scope)
    assert list(rivers.asked) == ["keep_all_data"]
    assert rivers.outputs == publish.outputs


def test_the_example_is_right():
    found = read_file(ROOT / "deploy" / "processes.example.yml", {})
    assert [process.base for process in found.processes.values() if process.base] == ["publish", "echo"]
    assert found.database_url is None


# The database


CONNECTION = 'manager: {name: PostgreSQL, connection: {host: db, database: d, user: u, password: "${PW}"}}'


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """No variables of ours but the one that names a file; returned is what writes it."""
    import os  # noqa: PLC0415

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    path = tmp_path / "processes.yml"
    monkeypatch.setenv("BOWERBIRD_PROCESSES_FILE", str(path))
    return path.write_text


def test_the_connection_is_the_database_unless_a_variable_names_one(environment, monkeypatch):
    environment(CONNECTION)
    monkeypatch.setenv("PW", "p@:/$x")
    assert load_settings().database_url == "postgresql://u:p%40%3A%2F%24x@db:5432/d"
    monkeypatch.setenv("BOWERBIRD_DATABASE_URL", "postgresql://other/d")
    assert load_settings().database_url == "postgresql://other/d"


def test_a_wrong_file_stops_whoever_reads_settings(environment, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"processes\.yml cannot be read: No such file"):
        load_settings()
    environment("resources: {echo: {titel: x}}")
    with pytest.raises(ConfigurationError, match=r"processes\.yml: resources\.echo: there is no key 'titel'"):
        load_settings()


# What is said of a wrong file


def variant(rest, name="x", base="publish"):
    return f"resources:\n  {name}:\n    processor: {{name: {base}}}\n    {rest}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yml: there should be keys below it: manager, resources"),
        ("- 1", "f.yml: there should be keys below it"),
        ("a: [", "f.yml, line 1: this is no YAML"),
        ("a: \0", "f.yml is no YAML: unacceptable character"),
        ("a: &a [*a]", "f.yml is no YAML: maximum recursion depth"),
        ("a: 1\n---\nb: 2", "f.yml, line 2: this is no YAML"),
        ("server: {bind: 1}", "f.yml: there is no key 'server'; there are: manager, resources"),
        ("\n\na: ${UNSET}", "f.yml, line 3: the variable UNSET is not set; set it, or write ${UNSET:-default}"),
        ("a: $HOME", "f.yml, line 1: a $ that begins no variable; write ${NAME}"),
        ("a: ${A:-${B}}", "f.yml, line 1: a $ that begins no variable"),
        ("a: 5$", "f.yml, line 1: a $ that begins no variable"),
        ("a: !ENV x", "f.yml, line 1: the tag !ENV is not read here"),
        ("a: !!int x", "f.yml, line 1: 'x' is no int"),
        ("a: !!bool x", "f.yml, line 1: 'x' is no bool"),
        ("? [a]\n: 1", "f.yml, line 1: a key is not a text"),
        ("resources:\n  echo: {}\n  echo: {}", "f.yml, line 3: 'echo' is there twice"),
        ("resources:", "f.yml: resources: Input should be a valid dictionary"),
        ("resources: {echo: 1}", "f.yml: resources.echo: there should be keys below it: type, processor"),
        ("resources: {echo: {titel: x}}", "f.yml: resources.echo: there is no key 'titel'; there are: type"),
        ('resources: {echo: {enabled: "yes"}}', "resources.echo.enabled: Input should be a valid boolean"),
        ("resources: {echo: {title: 3}}", "resources.echo.title: Input should be a valid string"),
        ("resources: {echo: {scope: root}}", "resources.echo.scope: Input should be 'read', 'operate' or 'admin'"),
        ("resources: {echo: {visible: all}}", "resources.echo.visible: Input should be 'public', 'read'"),
        ("resources: {echo: {type: collection}}", "resources.echo.type: Input should be 'process'"),
        (
            "resources: {publish: {scope: read}}",
            "resources.publish.scope: it can be made stricter only; choose",
        ),
        ("resources: {x: {}}", "resources.x.processor.name: say which process it is a variant of: publish, collect"),
        (variant("", base="print"), "resources.x.processor.name: there is no process 'print'; there are: publish"),
        (variant("", name="echo"), "resources.echo: this is the name of a built-in process"),
        (variant("", name="a b"), "resources.a b: 'a b' is no identifier; use letters"),
        (variant("", name="9"), "resources.9: '9' is no identifier"),
        (variant("", name="a,b"), "is no identifier"),
        (variant("", name="a" * 101), "is no identifier"),
        (variant("fixed: {colection: a}"), "resources.x.fixed.colection: publish has no such input; there are: coll"),
        (variant("fixed: {collection: 3}"), 'resources.x.fixed.collection: 3 is not of type "string"'),
        (variant("fixed: {keep_all_data: 1}"), "resources.x.fixed.keep_all_data: 1 is not of type"),
        (variant("fixed: {pause: 61}", base="echo"), "resources.x.fixed.pause: 61 is greater than the maximum of 60"),
        (variant("fixed: {pause: .inf}", base="echo"), "line 4: .inf is no number that JSON has"),
        (variant('fixed: {binary: "*"}', base="echo"), "resources.x.fixed.binary: is not base64"),
        (variant(f"fixed: {{numbers: {[1] * 11}}}", base="echo"), "resources.x.fixed.numbers: takes 0 to 10 values"),
        (variant("fixed: 1"), "resources.x.fixed: Input should be a valid dictionary"),
        ("manager: {name: TinyDB}", "f.yml: manager.name: Input should be 'PostgreSQL'"),
        ("manager: {output_dir: /tmp}", "f.yml: manager: there is no key 'output_dir'; there are: name, connection"),
        ("manager: {connection: postgresql://x}", "manager.connection: there should be keys below it: host, port"),
        ("manager: {connection: {host: db}}", "manager.connection.database: Field required"),
        ("manager: {connection: {port: x}}", "manager.connection.port: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, said):
    with pytest.raises(ConfigurationError) as error:
        read(text)
    assert str(error.value).startswith("f.yml")
    assert said in str(error.value)


def test_a_password_is_in_no_error():
    with pytest.raises(ConfigurationError) as error:
        read('manager: {connection: {host: 1, password: "${PW}"}}', PW="s3cret")
    assert "s3cret" not in str(error.value)


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "f.yml"
    path.write_bytes("resources: {echo: {title: Prüfung}}".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"is not in UTF-8 \(byte 28\)\. Convert it"):
        read_file(path, {})
