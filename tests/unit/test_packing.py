"""Members: who mirrors the files must see no change where there is none."""

import gzip
from concurrent.futures import ThreadPoolExecutor

from shared.packing import gzip_member

TEXTS = [b"", b"id,main_ocid,main_id\n", b"o-1,1,2021-01-01\n" * 3000]


def pack(_):
    """Pack texts, in a thread that others have left memory to."""
    return [gzip_member(text) for text in TEXTS * 20]


def test_the_same_text_gives_the_same_bytes_in_all_threads():
    with ThreadPoolExecutor(8) as pool:
        found = {tuple(members) for members in pool.map(pack, range(40))}
    assert len(found) == 1
    assert [gzip.decompress(member) for member in next(iter(found))] == TEXTS * 20
