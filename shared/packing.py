"""Gzip members: the same bytes give the same bytes, wherever and whenever they are packed."""

from isal import isal_zlib

LEVEL = 2
_GZIP_WINDOW = 16 + isal_zlib.MAX_WBITS
"""zlib's way to ask for a gzip header; it carries neither time nor name."""


def gzip_member(data: bytes) -> bytes:
    """Return one gzip member; ``b""`` gives a valid file of no bytes. Releases the interpreter lock."""
    # As a stream. What isal offers to compress at once, at levels 1 and 2, looks into memory that was not cleared: now
    # and then a byte differs, in some threads always.
    deflate = isal_zlib.compressobj(LEVEL, wbits=_GZIP_WINDOW)
    member: bytes = deflate.compress(data) + deflate.flush()
    return member
