"""Archives with nothing in them but the files: the same files give the same bytes, whoever packs them, and when."""

import tarfile
from pathlib import Path

from isal import igzip

LEVEL = 2


def pack(directory: Path, archive: Path, name: str) -> None:
    """Pack the files of a directory, by name, as ``.tar.gz``; unpacked, they are in a directory called ``name``."""
    with (
        archive.open("wb") as raw,
        igzip.IGzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_member(name, tarfile.DIRTYPE, 0o755))
        for path in sorted(directory.iterdir()):
            member = _member(f"{name}/{path.name}", tarfile.REGTYPE, 0o644)
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # its time, user and group are zero
    member.type = kind
    member.mode = mode
    return member
