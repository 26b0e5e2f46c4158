"""What the public is not shown: where a source lies, credentials, names of machines, other services' ids."""

import pytest

from shared.views import numbers, public_data, public_text


@pytest.mark.parametrize(
    ("text", "source", "shown"),
    [
        ("/home/maria/data/a.json, line 3: no JSON", "/home/maria/data/a.json", "a.json, line 3: no JSON"),
        ("/home/maria/data/2021/a.json is empty", "/home/maria/data", "data/2021/a.json is empty"),
        ("/home/maria/data/2021/a.json is empty", "/home/maria/data/", "data/2021/a.json is empty"),
        ("/tender/items/0/id is missing", "/home/maria/data", "/tender/items/0/id is missing"),
        ("nothing in /nowhere", "/nowhere", "nothing in /nowhere"),
        ("GET https://u:p@h.example/x?token=1 answered 500", "-", "GET https://h.example/x answered 500"),
        ("GET https://u:p@ss@h.example/x#key failed", "-", "GET https://h.example/x failed"),
        ("see https://h.example/docs", "-", "see https://h.example/docs"),
    ],
)
def test_a_note_keeps_what_helps_and_loses_what_is_private(text, source, shown):
    assert public_text(text, source) == shown


def test_data_of_a_note_is_treated_alike_at_any_depth():
    data = {"stale": {"host": "db1", "pid": 7, "attempt": 2}, "files": ["/srv/in/a.json"], "lines": 3, "ok": True}
    assert public_data(data, "/srv/in/a.json") == {"stale": {"attempt": 2}, "files": ["a.json"], "lines": 3, "ok": True}


def test_of_a_context_only_numbers_that_count_something_are_shown():
    context = {
        "records": 5,
        "error_rate": 0.25,
        "process_id": 12,
        "scrapy_log": "https://u:p@h/log",
        "done": True,
        "by_year": {"2021": 3, "/srv/in/a.json": 2},
        "files": {"path": "/srv"},
        "list": [1, 2],
    }
    assert numbers(context) == {"records": 5, "error_rate": 0.25, "by_year": {"2021": 3}}
