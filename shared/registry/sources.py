"""A Data Registry's rows, from its database, a dump of it, or Django's fixtures.

Each source yields the rows of a table as mappings from column to value: texts as PostgreSQL writes them, or values of
the driver or of JSON; ``rows.py`` takes all of these. Foreign keys are named as columns are (``collection_id``).

A plain dump is read here, line by line: no server and no tool is needed, and it may be compressed with gzip. A custom,
tar or directory format is turned into that by ``pg_restore``, which the embedded database brings along.
"""

import contextlib
import gzip
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import MetaData, Table, select, text
from sqlalchemy.exc import NoSuchTableError

from shared.db import make_engine
from shared.registry import RegistryError

Row = Mapping[str, Any]

APP = "data_registry"
MODELS = ("license", "settingsbundle", "setting", "collection", "issue", "job", "task", "tasknote")
FORMATS = (
    "a postgresql:// URL, a dump by pg_dump (plain, gzipped or not, or any other format), or JSON by Django's dumpdata "
    "(a file, or a directory of them)"
)
_COPY = re.compile(rf'COPY (?:"?[\w$]+"?\.)?"?{APP}_(\w+)"? \((.*)\) FROM stdin;\s*')
_INSERT = re.compile(rf'INSERT INTO (?:"?[\w$]+"?\.)?"?{APP}_(?:{"|".join(MODELS)})"?[ (]')
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_GZIP, _CUSTOM = b"\x1f\x8b", b"PGDMP"


class Source(Protocol):
    """Where the rows are."""

    def tables(self) -> set[str]:
        """Return the models (:data:`MODELS`) that are there."""

    def rows(self, model: str) -> Iterator[Row]:
        """Yield a model's rows; none if it is not there. May be called often."""


@contextlib.contextmanager
def open_source(place: str) -> Iterator[Source]:
    """Yield the source at a URL or a path. Raise :class:`RegistryError` if it is none of :data:`FORMATS`."""
    if place.startswith(("postgresql://", "postgres://")):
        with _database(place) as source:
            yield _checked(source, place)
        return
    path = Path(place).expanduser().absolute()
    if not path.exists():
        raise RegistryError(
            f"There is no file or directory {path}. Give what a Data Registry is imported from: {FORMATS}."
        )
    yield _checked(_file(path), str(path))


def _checked(source: Source, place: str) -> Source:
    if "collection" not in source.tables():
        raise RegistryError(f"{place} has no table {APP}_collection: it is no Data Registry's. Expected: {FORMATS}.")
    return source


def _file(path: Path) -> Source:
    if path.is_dir():
        return Restored(path) if (path / "toc.dat").exists() else Fixtures(_fixtures_in(path))
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_CUSTOM) or (not start.startswith(_GZIP) and tarfile.is_tarfile(path)):
        return Restored(path)
    with _opened(path) as lines:
        beginning = lines.read(4096).lstrip()
    if beginning.startswith(("[", "{")):
        return Fixtures([path])
    return Dump(path)


def _fixtures_in(directory: Path) -> list[Path]:
    names = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz")
    return sorted(path for pattern in names for path in directory.glob(pattern))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Yield the text of a file that may be gzipped. Lines end only where PostgreSQL ends them."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        binary: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as text_file:
            try:
                yield text_file
            except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
                raise RegistryError(f"{path} is damaged ({error}). Copy it, or dump it, again.") from error


# A database


class Database:
    """A Data Registry's own database. Read in one snapshot, by statements that only read."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._tables: dict[str, Table] = {}
        for model in MODELS:
            with contextlib.suppress(NoSuchTableError):
                self._tables[model] = Table(f"{APP}_{model}", MetaData(), autoload_with=connection, resolve_fks=False)

    def tables(self) -> set[str]:
        """Return the models that have a table."""
        return set(self._tables)

    def rows(self, model: str) -> Iterator[Row]:
        """Yield a table's rows, by id."""
        table = self._tables.get(model)
        if table is not None:
            statement = select(table).order_by(table.c.id).execution_options(yield_per=1000)
            yield from self._connection.execute(statement).mappings()


@contextlib.contextmanager
def _database(url: str) -> Iterator[Database]:
    engine = make_engine(url, application_name="bowerbird import-registry")
    try:
        with engine.connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield Database(connection)
    finally:
        engine.dispose()


# A dump


class Dump:
    """A plain dump: ``COPY … FROM stdin`` blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: set[str] | None = None

    def tables(self) -> set[str]:
        """Return the models that have a block."""
        if self._found is None:
            self._found = {model for model, _, _ in self._blocks()}
        return self._found

    def rows(self, model: str) -> Iterator[Row]:
        """Yield a block's rows."""
        for found, columns, lines in self._blocks():
            if found == model:
                yield from _rows_of(columns, lines)

    def _blocks(self) -> Iterator[tuple[str, list[str], Iterator[str]]]:
        with self._lines() as lines:
            yield from _blocks_of(lines, str(self._path))

    @contextlib.contextmanager
    def _lines(self) -> Iterator[IO[str]]:
        with _opened(self._path) as lines:
            yield lines


class Restored(Dump):
    """A dump in another format of pg_dump, as ``pg_restore`` writes it out."""

    @contextlib.contextmanager
    def _lines(self) -> Iterator[IO[str]]:
        tables = [argument for model in MODELS for argument in ("--table", f"{APP}_{model}")]
        command = [_pg_restore(), "--data-only", *tables, "--file=-", str(self._path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", stdin=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield process.stdout
                if not process.stdout.read(1):
                    fault = process.stderr.read()
                    if process.wait() != 0:
                        raise RegistryError(f"pg_restore cannot read {self._path}: {' '.join(fault.split())}")
            finally:
                process.kill()


def _pg_restore() -> str:
    from shared.db.embedded import server_program  # noqa: PLC0415  only this format needs it

    command = server_program("pg_restore") or shutil.which("pg_restore")
    if command is None:
        raise RegistryError(
            "This dump is in a format that needs pg_restore, which is not installed. Install PostgreSQL's client "
            "programs, or make a plain dump: pg_dump --format=plain"
        )
    return command


def _blocks_of(lines: IO[str], place: str) -> Iterator[tuple[str, list[str], Iterator[str]]]:
    """Yield (model, columns, lines of rows) for each block of ours. Lines that nobody reads are passed over."""
    for line in lines:
        if line.startswith("SET client_encoding") and "UTF8" not in line:
            raise RegistryError(f"{place} is not in UTF-8. Dump it again: pg_dump --encoding=UTF8")
        if _INSERT.match(line):
            raise RegistryError(f"{place} has INSERT statements. Dump it again without --inserts.")
        match = _COPY.fullmatch(line)
        if match is None or match[1] not in MODELS:
            continue
        columns = [column.strip().strip('"') for column in match[2].split(",")]
        block = _until_end(lines, place)
        yield match[1], columns, block
        for _ in block:
            pass


def _until_end(lines: IO[str], place: str) -> Iterator[str]:
    for line in lines:
        if line.rstrip("\r\n") == "\\.":
            return
        yield line
    raise RegistryError(f"{place} ends too early, in the middle of a table. Copy it, or dump it, again.")


def _rows_of(columns: Sequence[str], lines: Iterator[str]) -> Iterator[Row]:
    for line in lines:
        values = line.rstrip("\n").split("\t")
        if len(values) != len(columns):
            raise RegistryError(
                f"The dump is damaged: a row has {len(values)} values for {len(columns)} columns. Copy it, or dump it, "
                f"again. The row: {line:.80}"
            )
        yield dict(zip(columns, map(_value, values), strict=True))


def _value(written: str) -> str | None:
    """Return a value as COPY writes it in text format (PostgreSQL's documentation of COPY, "Text Format")."""
    if written == "\\N":
        return None
    return _ESCAPE.sub(_unescaped, written) if "\\" in written else written


def _unescaped(match: "re.Match[str]") -> str:
    if match[1] is not None:
        return chr(int(match[1], 8))
    if match[2] is not None:
        return chr(int(match[2], 16))
    return _CONTROL.get(match[3], match[3])


# Fixtures


class Fixtures:
    """What ``dumpdata`` writes: objects of ``model``, ``pk`` and ``fields``, in arrays or one a line."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows: dict[str, list[Row]] = {}
        for path in paths:
            for item in _objects(path):
                app, _, model = str(item.get("model", "")).partition(".")
                if app == APP and model in MODELS:
                    self._rows.setdefault(model, []).append(_with_keys(item))

    def tables(self) -> set[str]:
        """Return the models of which there are objects."""
        return set(self._rows)

    def rows(self, model: str) -> Iterator[Row]:
        """Yield a model's objects."""
        yield from self._rows.get(model, ())


_KEYS = ("collection", "job", "task", "bundle", "license_custom", "active_job", "settings_bundle")


def _with_keys(item: Mapping[str, Any]) -> Row:
    fields = {(f"{name}_id" if name in _KEYS else name): value for name, value in (item.get("fields") or {}).items()}
    return {"id": item.get("pk"), **fields}


def _objects(path: Path) -> list[Mapping[str, Any]]:
    with _opened(path) as file:
        content = file.read()
    try:
        items = json.loads(content) if content.lstrip().startswith("[") else _lines_of_json(content)
    except ValueError as error:
        raise RegistryError(f"{path} is no JSON ({error}). Make it again with dumpdata.") from error
    if not all(isinstance(item, dict) for item in items):
        raise RegistryError(
            f"{path} is not what dumpdata writes: an array of objects with model, pk and fields. Make it with dumpdata."
        )
    return items


def _lines_of_json(content: str) -> list[Any]:
    return [json.loads(line) for line in content.split("\n") if line.strip()]
