"""Kinds of problem: registered once, explained, and the same in code and page."""

import ast
import re
from http import HTTPStatus
from pathlib import Path

import pytest

from services.api.problem_types import BY_ID, TYPES, kind_of
from services.api.problems import ProblemError, media_type
from services.api.schemas import JSON, NO_SUCH_JOB, PROBLEM_JSON, PROBLEMS

ROOT = Path(__file__).parents[2]
GENERAL = (400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 416, 422, 429, 500, 503)


@pytest.mark.parametrize("type_", TYPES.values(), ids=BY_ID)
def test_a_kind_says_what_it_is_and_what_to_do(type_):
    assert re.fullmatch("[a-z]+(-[a-z]+)*", type_.id)
    assert type_.title[0].isupper()
    assert not type_.title.endswith(".")
    assert type_.explanation.endswith(".")
    assert type_.remedy.endswith(".")


def test_ids_are_told_apart():
    assert len(BY_ID) == len(TYPES)


@pytest.mark.parametrize("status", GENERAL)
def test_a_status_has_a_kind_where_no_other_says_more(status):
    assert ProblemError(HTTPStatus(status), "x").type.status == status


def test_a_kind_has_the_status_that_it_is_raised_with():
    assert kind_of(NO_SUCH_JOB, HTTPStatus.NOT_FOUND).id == "no-such-job"
    with pytest.raises(LookupError):
        kind_of(f"{PROBLEMS}no-such-kind", HTTPStatus.NOT_FOUND)


def test_every_kind_that_the_code_names_is_registered():
    named = set()
    for path in (ROOT / "services" / "api").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.JoinedStr(
                    values=[ast.FormattedValue(value=ast.Name(id="PROBLEMS")), ast.Constant(value=str(id_))]
                ):
                    named.add(PROBLEMS + id_)
    assert len(named) > 10
    assert named <= TYPES.keys()


def test_the_page_lists_the_kinds_there_are():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)`(?: \(OGC\))? \| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert {(id_, int(status), text) for id_, status, text in rows} == {
        (type_.id, int(type_.status), type_.explanation) for type_ in TYPES.values()
    }


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PROBLEM_JSON),
        ("*/*", PROBLEM_JSON),
        ("application/*", PROBLEM_JSON),
        ("text/html", PROBLEM_JSON),
        ("application/json;q=0, */*", PROBLEM_JSON),
        ("application/json", JSON),
        ("application/json;charset=utf-8, */*;q=0.1", JSON),
        ("application/json, application/problem+json;q=0.5", PROBLEM_JSON),
    ],
)
def test_a_problem_is_plain_json_only_for_who_names_that_alone(accept, expected):
    assert media_type(accept) == expected
