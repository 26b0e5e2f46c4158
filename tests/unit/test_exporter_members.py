"""Blocks become gzip members, each in all its files, in order; and the files know what is in them."""

import gzip
import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.exporter import members
from services.exporter.members import HashedFile, MemberWriter
from shared.packing import gzip_member

BLOCKS = st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.integers(min_value=0, max_value=2)))


@given(BLOCKS)
def test_each_block_is_a_member_of_its_file_and_of_the_full_one(blocks):
    with tempfile.TemporaryDirectory() as name, MemberWriter() as writer:
        files = [HashedFile(Path(name) / str(number)) for number in range(3)]
        full = HashedFile(Path(name) / "full")
        for block, number in blocks:
            writer.add(block, [files[number], full])
        writer.flush()
        for number, file in enumerate(files):
            expected = b"".join(gzip_member(block) for block, of in blocks if of == number)
            assert file.path.read_bytes() == expected
        assert full.path.read_bytes() == b"".join(gzip_member(block) for block, _ in blocks)
        if blocks:
            assert gzip.decompress(full.path.read_bytes()) == b"".join(block for block, _ in blocks)
        for file in (*files, full):
            file.close()
            assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_what_goes_wrong_in_the_other_thread_is_raised(tmp_path):
    with MemberWriter() as writer:
        file = HashedFile(tmp_path / "file")
        file.close()
        writer.add(b"{}\n", [file])
        with pytest.raises(ValueError, match="closed file"):
            writer.flush()


def test_no_more_text_is_held_than_was_agreed(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "PENDING_BYTES", 100)
    held = []
    with MemberWriter() as writer, HashedFile(tmp_path / "file") as file:
        for _ in range(50):
            writer.add(b"x" * 40, [file])
            held.append(writer._pending_bytes)
        writer.flush()
    assert max(held) <= 100
