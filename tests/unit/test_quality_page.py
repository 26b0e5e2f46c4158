"""docs/quality.md says of every check what the code says."""

from pathlib import Path

from services.processor.quality.rules import EXTENSIONS
from shared.quality import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "quality.md"
HEAD = "| check | severity | of | passes where | details |\n| --- | --- | --- | --- | --- |\n"


def rows() -> list[str]:
    """Return the rows of the page's table as the catalogue has them."""
    return [
        f"| `{check.id}` | {check.severity} | {check.of} | {check.title} | {check.explanation} |"
        for check in CHECKS.values()
    ]


def test_the_page_has_every_check_as_it_is():
    table = PAGE.read_text().split(HEAD)[1].split("\n\n")[0]
    assert table.splitlines() == rows()


def test_texts_fit_a_table_and_are_sentences():
    for check in CHECKS.values():
        assert "|" not in check.title + check.explanation + check.of
        assert check.explanation.endswith(".")
        assert not check.title.endswith(".")


def test_the_page_names_every_extension():
    page = PAGE.read_text().lower().replace(" ", "").replace("\n", "")
    assert [name for name in EXTENSIONS if name.lower() not in page] == []
