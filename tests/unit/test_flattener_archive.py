"""Archives: the same tables, the same bytes."""

import csv
import io
import subprocess
import tarfile

from services.flattener.archive import pack
from services.flattener.rows import Kind, Layout, Rows
from services.flattener.tables import Keeper, Table


def make(directory, **tables):
    """Return tables of rows, of which the first is the header."""
    directory.mkdir()
    keeper = Keeper(directory)
    for name, (header, *lines) in tables.items():
        rows = Rows(name)
        layout = Layout(rows, [(column, Kind.TEXT) for column in header])
        for line in lines:
            rows.add(layout, (*line, None))
        for batch in rows.take(1000):
            keeper.keep(batch)
    return list(keeper.tables.values())


def read(path, name):
    with tarfile.open(path) as tar:
        return list(csv.reader(io.StringIO(tar.extractfile(name).read().decode(), newline="")))


def test_an_archive_holds_one_directory_of_the_tables_by_name(tmp_path):
    tables = make(tmp_path / "t", main=[["a"], ["1"]], awards=[["b"], ["2"]], **{"é" * 120: [["c"], ["3"]]})
    pack([*tables, Table("empty")], tmp_path / "2021.csv.tar.gz", "2021")
    with tarfile.open(tmp_path / "2021.csv.tar.gz") as tar:
        names = ["2021", "2021/awards.csv", "2021/empty.csv", "2021/main.csv", f"2021/{'é' * 120}.csv"]
        assert tar.getnames() == names
        assert tar.extractfile("2021/main.csv").read() == b"a\n1\n"
        assert tar.extractfile("2021/empty.csv").read() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["t", "2021.csv.tar.gz"]


def test_cells_are_what_they_were(tmp_path):
    cells = ["a\nb", '"', 'say "hi"\n\n"', "", "\r\n", "\r", ",\n,", " x ", None, "é\0"]
    pack(make(tmp_path / "t", main=[["a\nb,", "x\1"], *([cell, "1"] for cell in cells)]), tmp_path / "a.tar.gz", "a")
    assert read(tmp_path / "a.tar.gz", "a/main.csv") == [["a\nb,", "x "], *([cell or "", "1"] for cell in cells)]


def test_an_empty_row_of_one_column_is_a_row(tmp_path):
    pack(make(tmp_path / "t", main=[["a"], ["1"], [None], ["2"]]), tmp_path / "a.tar.gz", "a")
    assert read(tmp_path / "a.tar.gz", "a/main.csv") == [["a"], ["1"], [""], ["2"]]


def test_tar_unpacks_it_for_its_user_to_read_and_change(tmp_path):
    pack(make(tmp_path / "t", main=[["a"], ["1"]]), tmp_path / "a.tar.gz", "2021")
    subprocess.run(["tar", "xzf", "a.tar.gz", "--no-same-owner"], cwd=tmp_path, check=True)
    assert (tmp_path / "2021").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "2021" / "main.csv").stat().st_mode & 0o777 == 0o644


def test_the_same_tables_give_the_same_bytes(tmp_path):
    archives = []
    for number in range(2):
        tables = make(tmp_path / str(number), main=[["a"], ["1"]], awards=[["b"], ["2"]])
        pack(reversed(tables) if number else tables, tmp_path / f"{number}.tar.gz", "2021")
        archives.append((tmp_path / f"{number}.tar.gz").read_bytes())
    assert archives[0] == archives[1]
    assert archives[0][4:8] == bytes(4), "the gzip header has no time"


CELLS = ["=1+1", "+x", "-x", "@a", "\tx", "\rx", "-5", "+5", "-.5e3", "a=b", "'", "", None, "-5x", "=", "--5"]
GUARDED = ["'=1+1", "'+x", "'-x", "'@a", "'\tx", "'\rx", "-5", "+5", "-.5e3", "a=b", "'", "", "", "'-5x", "'=", "'--5"]


def test_what_a_spreadsheet_takes_for_a_formula_is_guarded_if_wanted(tmp_path):
    tables = make(tmp_path / "t", main=[["=a", "b"], *([cell, "1"] for cell in CELLS)])
    pack(tables, tmp_path / "a.tar.gz", "a", guard=True)
    assert read(tmp_path / "a.tar.gz", "a/main.csv") == [["'=a", "b"], *([cell, "1"] for cell in GUARDED)]
    pack(tables, tmp_path / "a.tar.gz", "a")
    assert read(tmp_path / "a.tar.gz", "a/main.csv") == [["=a", "b"], *([cell or "", "1"] for cell in CELLS)]
