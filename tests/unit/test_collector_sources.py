"""Files, directories and archives become streams of bytes, told apart by what is in them."""

import errno
import functools
import gzip
import io
import os
import random
import zipfile
from pathlib import Path

import pytest

from services.collector import sources
from services.collector.sources import Found, local_path, open_streams
from shared.errors import PermanentError, TemporaryError

pack = functools.partial(gzip.compress, mtime=0)  # the same bytes every time: they are in names of tests

DATA = b'{"a": 1}\n' * 1000


def read_all(path, name=None, found=None):
    """Return the streams' names and bytes."""
    found = found or Found()
    result = {}
    for stream in open_streams(path, name or str(path), found):
        blocks = []
        while block := stream.read(1000):
            blocks.append(block)
        result[stream.name] = b"".join(blocks)
    return result


def zip_of(members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def place(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(name, data):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.zip", "a", "a.txt"])
@pytest.mark.parametrize(
    "packed",
    [
        DATA,
        pack(DATA),
        pack(DATA[:500]) + pack(DATA[500:]),
        pack(pack(DATA)),
        pack(DATA) + bytes(100),
    ],
    ids=["plain", "gzip", "members", "twice", "padded"],
)
def test_a_file_is_unpacked_by_its_content_whatever_its_name(place, name, packed):
    path = place(name, packed)
    found = Found()
    assert read_all(path, "the name", found) == {"the name": DATA}
    assert (found.files, found.bytes) == (1, len(DATA))


@pytest.mark.parametrize("name", ["a.zip", "a.json"])
def test_the_members_of_an_archive_are_read_in_order_of_their_names(place, name):
    members = {
        "b.jsonl": DATA,
        "a/c.JSON": b"c",
        "a/b.json.gz": pack(DATA),
        "readme.txt": b"x",
        ".hidden.json": b"x",
        "__MACOSX/a/._c.json": b"x",
        "d/": b"",
    }
    path, found = place(name, zip_of(members)), Found()
    read = read_all(path, "Z", found)
    assert list(read.items()) == [("Z [a/b.json.gz]", DATA), ("Z [a/c.JSON]", b"c"), ("Z [b.jsonl]", DATA)]
    assert (found.files, found.bytes) == (3, 2 * len(DATA) + 1)
    assert (found.left_aside, found.left_aside_names) == (1, ["Z [readme.txt]"])


def test_a_directory_is_read_with_its_subdirectories_in_order_of_names(place, tmp_path):
    place("d/b.json", b"b")
    place("d/a/z.ndjson", b"z")
    place("d/a/y.json.gz", pack(b"y"))
    place("d/c.zip", zip_of({"m.json": b"m"}))
    place("d/.git/x.json", b"hidden")
    place("d/.x.json", b"hidden")
    place("d/notes.txt", b"aside")
    place("d/a/data.csv", b"aside")
    (tmp_path / "d/round").symlink_to(tmp_path / "d")
    (tmp_path / "d/link.json").symlink_to(tmp_path / "d/b.json")
    (tmp_path / "d/broken.json").symlink_to(tmp_path / "nowhere")
    found = Found()
    directory = tmp_path / "d"
    read = read_all(directory, found=found)
    names = ["a/y.json.gz", "a/z.ndjson", "b.json", "c.zip [m.json]", "link.json"]
    assert list(read) == [f"{directory}/{name}" for name in names]
    assert list(read.values()) == [b"y", b"z", b"b", b"m", b"b"]
    aside = ["a/data.csv", "broken.json", "notes.txt", "round"]
    assert (found.left_aside, found.left_aside_names) == (4, [f"{directory}/{name}" for name in aside])


def test_a_file_name_that_is_not_utf_8_is_shown_as_text(place, tmp_path):
    place("d/z.json", b"z")
    for name in (b"caf\xe9.json", b"caf\xe9.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path / "d") + b"/" + name)).write_bytes(DATA)
    found = Found()
    assert list(read_all(tmp_path / "d", found=found)) == [f"{tmp_path}/d/caf\ufffd.json", f"{tmp_path}/d/z.json"]
    assert found.left_aside_names == [f"{tmp_path}/d/caf\ufffd.txt"]


def test_a_file_that_goes_away_meanwhile_is_no_lasting_failure(place, tmp_path):
    place("d/a.json", DATA)
    last = place("d/b.json", DATA)
    streams = open_streams(tmp_path / "d", "d", Found())
    next(streams)
    last.unlink()
    with pytest.raises(TemporaryError, match=r"/d/b\.json was taken away"):
        next(streams)


def test_of_many_files_left_aside_only_some_names_are_kept(place, tmp_path):
    for number in range(sources.NAMES_KEPT + 5):
        place(f"d/{number:03}.txt", b"")
    place("d/z.json", b"z")
    found = Found()
    read_all(tmp_path / "d", found=found)
    assert (found.left_aside, len(found.left_aside_names)) == (25, 20)


@pytest.mark.parametrize("data", [b"", b"x" * 10])
def test_a_directory_or_archive_without_a_usable_file_is_refused(place, tmp_path, data):
    place("d/x.txt", data)
    with pytest.raises(PermanentError, match=r"/d has no file with a name that ends in \.json, .* \(1 others"):
        read_all(tmp_path / "d")
    with pytest.raises(PermanentError, match="has no file with a name that ends in"):
        read_all(place("a.zip", zip_of({"x.txt": data})))
    with pytest.raises(PermanentError, match="has no file"):
        read_all(place("b.zip", zip_of({})))


PACKED = pack(random.Random(1).randbytes(5000) + DATA)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (PACKED[:-1], "is cut short"),
        (PACKED[:-2000], "is cut short"),
        (PACKED[:5], "is cut short"),
        (PACKED + PACKED[:-20], "is cut short"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "is damaged"),
        (PACKED[:4000] + bytes([255] * 40) + PACKED[4040:], "is damaged"),
        (pack(pack(PACKED)), "is packed with gzip more than 2 times over. Unpack it once"),
        (pack(zip_of({"a.json": DATA})), "is a ZIP file inside another file"),
        (zip_of({"a.json": random.Random(1).randbytes(5000)})[:-60], "is cut short or damaged"),
        (zip_of({"in.zip": zip_of({"a.json": DATA})}), r"\[in\.zip\] is a ZIP file inside another"),
        (zip_of({"in.json": zip_of({"a.json": DATA})}), r"\[in\.json\] is a ZIP file inside another"),
        (zip_of({"a.gz": PACKED[:-5]}), r"\[a\.gz\] is cut short"),
        (zip_of({"é.json": DATA}).replace("é".encode(), b"\xff\xff"), "is cut short or damaged"),
    ],
)
def test_what_is_damaged_is_named(place, data, what):
    path = place("a.data", data)
    with pytest.raises(PermanentError, match=what) as caught:
        read_all(path)
    assert str(caught.value).startswith(str(path))


def test_a_damaged_member_of_an_archive_is_named(place):
    whole = zip_of({"a.json": random.Random(1).randbytes(5000)})
    at = whole.index(b"a.json") + 2000
    with pytest.raises(PermanentError, match=r"a\.zip \[a\.json\] is damaged"):
        read_all(place("a.zip", whole[:at] + b"\0\0\0" + whole[at + 3 :]))
    # The name in front of the data is not the one in the directory at the end.
    with pytest.raises(PermanentError, match=r"a\.zip \[a\.json\] is damaged"):
        read_all(place("a.zip", whole.replace(b"a.json", b"b.json", 1)))


def test_an_encrypted_or_oddly_compressed_member_is_named(place):
    whole = bytearray(zip_of({"a.json": DATA}))
    directory = whole.index(b"PK\x01\x02")
    whole[6], whole[directory + 8] = 1, 1
    with pytest.raises(PermanentError, match=r"\[a\.json\] cannot be unpacked .*password"):
        read_all(place("a.zip", bytes(whole)))
    whole[6], whole[directory + 8] = 0, 0
    whole[8], whole[directory + 10] = 97, 97
    with pytest.raises(PermanentError, match=r"\[a\.json\] cannot be unpacked .*compression"):
        read_all(place("a.zip", bytes(whole)))


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zip_of({"a.json": data})], ids=["gzip", "zip"])
def test_a_bomb_is_stopped_and_a_small_one_does_no_harm(place, monkeypatch, pack):
    path = place("a.json", pack(b" " * 1_000_000))
    assert sum(map(len, read_all(path).values())) == 1_000_000
    monkeypatch.setattr(sources, "HARMLESS_BYTES", 1000)
    with pytest.raises(PermanentError, match="unpacks to more than 250 times its size"):
        read_all(path)
    assert read_all(place("b.json", pack(random.Random(1).randbytes(5000))))


@pytest.mark.parametrize("source", ["data/a.json", "", "~/a.json", "a.json"])
def test_a_relative_path_is_refused(source):
    with pytest.raises(PermanentError, match="neither an absolute path nor an"):
        local_path(source)


@pytest.mark.parametrize("source", ["ftp://example.org/a.json", "s3://bucket/a.json", "sftp://x/y", "data:x://y"])
def test_other_schemes_are_refused(source):
    with pytest.raises(PermanentError, match=r"a (ftp|s3|sftp|data):// URL, which cannot be read"):
        local_path(source)


def test_a_file_url_is_a_path(place):
    path = place("a b.json", DATA)
    assert local_path(path.as_uri()) == path
    assert local_path(f"file://localhost{path}") == path
    assert local_path(str(path)) == path
    with pytest.raises(PermanentError, match="is on another host"):
        local_path(f"file://elsewhere{path}")


@pytest.mark.parametrize("source", ["/no/such/file", "/etc/passwd/x", "/a\0b", "/" + "x" * 5000])
def test_a_source_that_is_not_there_is_named_with_the_remedy(source):
    with pytest.raises(PermanentError, match=r"cannot be read .*machine of the collector"):
        local_path(source)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(PermanentError, match="is neither a file nor a directory"):
        read_all(tmp_path / "pipe.json")
    with pytest.raises(PermanentError, match="has no file"):
        read_all(tmp_path)


def test_what_may_not_be_read_is_named(place, tmp_path, monkeypatch):
    path = place("d/a.json", DATA)

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(PermanentError, match=r"a\.json may not be read by the collector"):
            read_all(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(PermanentError, match="/d may not be read by the collector"):
            read_all(tmp_path / "d")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        with pytest.raises(PermanentError, match=r"a\.json may not be read by the collector"):
            local_path(str(path))
