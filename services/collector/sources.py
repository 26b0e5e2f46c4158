"""Where records come from: a file, a directory of files, an archive. Each becomes streams of bytes, with names.

Files are told apart by their content, not by their names: gzip (also twice over) and ZIP are unpacked on the way, in
memory of constant size. Only in directories and archives do names decide, what is left aside: hidden files silently,
others than ``.json``, ``.jsonl``, ``.ndjson``, ``.gz`` and ``.zip`` with a note.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, NoReturn, cast
from urllib.parse import unquote, urlsplit

from isal import igzip
from isal.igzip_lib import IsalError

from shared.errors import PermanentError, TemporaryError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".gz", ".zip")
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_LAYERS = 2
"""A server may compress a file that is compressed already."""
BLOCK_BYTES = 1 << 17
NAMES_KEPT = 20

# A stream this much longer than its packed form is a bomb, made to fill a disk: JSON is packed about 10 to 1, the most
# repetitive about 100 to 1, while the format allows 1,032 to 1. What is short can do no harm.
BOMB_RATIO = 250
HARMLESS_BYTES = 1 << 30

# isal's stubs take its class of errors for an error.
DAMAGE = (BadGzipFile, zipfile.BadZipFile, zlib.error, cast("type[Exception]", IsalError))


@dataclass
class Found:
    """What the files of a source amount to."""

    files: int = 0
    bytes: int = 0
    """Read so far, after unpacking."""
    left_aside: int = 0
    """Files that are no JSON by their names."""
    left_aside_names: list[str] = field(default_factory=list)
    """Of the first :data:`NAMES_KEPT` of them."""

    def leave_aside(self, name: str) -> None:
        """Count a file that is not read."""
        self.left_aside += 1
        if len(self.left_aside_names) < NAMES_KEPT:
            self.left_aside_names.append(name)


class Stream:
    """The unpacked bytes of one file. What goes wrong with the file becomes an error that names it.

    :param name: for people: a path or URL, and the member of an archive.
    :param packed_bytes: how long the file or member is before it is unpacked.
    """

    def __init__(self, name: str, file: IO[bytes], packed_bytes: int, found: Found) -> None:
        self.name = name
        self._packed = file
        self._unpacked: IO[bytes] | None = None
        self._limit = max(HARMLESS_BYTES, BOMB_RATIO * packed_bytes)
        self._bytes = 0
        self._found = found

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end.

        :raises PermanentError: the file is damaged, or a bomb.
        """
        try:
            if self._unpacked is None:
                self._unpacked = self._unpack(self._packed)
            block = self._unpacked.read(size)
        except EOFError:
            self._fail("is cut short: the gzip data has no end. Fetch or make it again")
        except DAMAGE as error:
            self._fail(f"is damaged ({error}). Fetch or make it again")
        self._bytes += len(block)
        self._found.bytes += len(block)
        if self._bytes > self._limit:
            self._fail(f"unpacks to more than {BOMB_RATIO} times its size, as no honest data does. Unpack it yourself")
        return block

    def _unpack(self, file: IO[bytes]) -> IO[bytes]:
        for _ in range(GZIP_LAYERS):
            if not _peek(file).startswith(GZIP_MAGIC):
                break
            file = io.BufferedReader(igzip.open(file, "rb"), BLOCK_BYTES)
        if _peek(file).startswith(GZIP_MAGIC):
            self._fail(f"is packed with gzip more than {GZIP_LAYERS} times over. Unpack it once")
        if _peek(file).startswith(ZIP_MAGICS):
            self._fail("is a ZIP file inside another file. Unpack the outer one")
        return file

    def _fail(self, what: str) -> NoReturn:
        raise PermanentError(f"{self.name} {what}.")


def local_path(source: str) -> Path:
    """Return the place of a source that is no web address: an absolute path or ``file://`` URL.

    :raises PermanentError: it is neither, or there is no such file or directory.
    """
    path = Path(_path_of_url(source) if "://" in source else source)
    if not path.is_absolute():
        raise PermanentError(
            f"The source {source!r} is neither an absolute path nor an http(s) URL. Correct the collection's source."
        )
    try:
        path.stat()
    except PermissionError:
        raise _not_readable(path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PermanentError(
            f"The source {source!r} cannot be read ({reason}). It must be on the machine of the collector: put it "
            "there, or correct the collection's source."
        ) from error
    return path


def _path_of_url(source: str) -> str:
    parts = urlsplit(source)
    if parts.scheme.lower() != "file":
        raise PermanentError(
            f"The source is a {parts.scheme}:// URL, which cannot be read. Paths and http(s) URLs can: correct the "
            "collection's source."
        )
    if parts.netloc not in {"", "localhost"}:
        raise PermanentError(f"The source {source!r} is on another host. Use a path, or an http(s) URL.")
    return unquote(parts.path)


def open_streams(path: Path, name: str, found: Found) -> Iterator[Stream]:
    """Yield the streams of a file, an archive or a directory (in order of names, with its subdirectories).

    A stream is open until the next one is asked for.

    :param name: of the file or directory, for people.
    :raises PermanentError: there is nothing to read, or it cannot be read; the text names it.
    :raises TemporaryError: a file of the directory has gone.
    """
    if path.is_dir():
        for file in _files_in(path, found):
            yield from _open_file(file, _shown(file), found)
    elif path.is_file():
        yield from _open_file(path, name, found)
    else:
        raise PermanentError(f"{name} is neither a file nor a directory. Correct the collection's source.")
    if not found.files:
        aside = f" ({found.left_aside:,} others were left aside)" if found.left_aside else ""
        raise PermanentError(
            f"{name} has no file with a name that ends in {', '.join(SUFFIXES)}{aside}. Put the data there, or correct "
            "the collection's source."
        )


def _files_in(directory: Path, found: Found) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries)  # and not paths: a million of them would be 300 MB
    except PermissionError:
        raise _not_readable(directory) from None
    for name in names:
        path = directory / name
        if name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():  # links could go round in circles
            yield from _files_in(path, found)
        elif name.lower().endswith(SUFFIXES) and (path.is_file() or not os.path.lexists(path)):
            yield path  # even if it has gone by now: opening it says so
        else:
            found.leave_aside(_shown(path))


def _open_file(path: Path, name: str, found: Found) -> Iterator[Stream]:
    try:
        file = path.open("rb")
    except PermissionError:
        raise _not_readable(path) from None
    except FileNotFoundError as error:
        raise TemporaryError(f"{name} was taken away while the source was read.") from error
    with file:
        if _peek(file).startswith(ZIP_MAGICS):
            yield from _open_members(file, name, found)
        else:
            found.files += 1
            yield Stream(name, file, path.stat().st_size, found)


def _open_members(file: IO[bytes], name: str, found: Found) -> Iterator[Stream]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:  # the latter: the name of a member
        raise PermanentError(f"{name} is cut short or damaged ({error}). Fetch or make it again.") from error
    with archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if _is_hidden(info):
                continue
            member = f"{name} [{info.filename}]"
            if info.filename.lower().endswith(SUFFIXES):
                found.files += 1
                with _open_member(archive, info, member) as unpacked:
                    yield Stream(member, unpacked, info.compress_size, found)
            else:
                found.leave_aside(member)


def _is_hidden(info: zipfile.ZipInfo) -> bool:
    return info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/"))


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> IO[bytes]:
    try:
        return archive.open(info)
    except zipfile.BadZipFile as error:
        raise PermanentError(f"{name} is damaged ({error}). Fetch or make it again.") from error
    except (RuntimeError, NotImplementedError) as error:  # a password; a rare method of compression
        raise PermanentError(f"{name} cannot be unpacked ({error}). Unpack it yourself.") from error


def _peek(file: IO[bytes]) -> bytes:
    return file.peek(4)[:4]  # type: ignore[attr-defined, no-any-return]  # of BufferedReader and ZipExtFile


def _shown(path: Path) -> str:
    """Return a path as text that can be stored: file names may have bytes that are no UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _not_readable(path: Path) -> PermanentError:
    return PermanentError(f"{_shown(path)} may not be read by the collector. Give its user the permission to.")
