"""A large export in shares: many units write a share each, and one more joins them without compressing anything again.

A share is a run of sections (repository.py), which follow one another in the order of the exported files; so the files
of the shares, one behind the other, are byte for byte what a single unit would have written. Each unit reads from a
snapshot of its own: nothing changes a job's compiled records while it is exported, and the counts are compared.

What a share wrote is not published. It stays in the place that its attempt's commit gave it, under its claim's token
like every file that is made, until the job ends well; so a unit that fails, or is done again, costs one share.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from services.exporter.files import FULL, name_of
from services.exporter.members import HashedFile
from services.exporter.repository import Section, sections_of
from shared.db.models import Unit
from shared.errors import PermanentError
from shared.worker.context import Work

COPY_BYTES = 1 << 20


def choose(sections: Sequence[Section], share: int, of: int) -> list[Section]:
    """Return the sections of a share, from 1 on; all shares have about as many records."""
    total = sum(section.records for section in sections)
    chosen, before = [], 0
    for section in sections:
        if before * of // total == share - 1:
            chosen.append(section)
        before += section.records
    return chosen


def leave(work: Work, records_of: dict[str, int], written_bytes: int) -> dict[str, Any]:
    """Leave a share's files to the unit that joins them.

    :param records_of: the name of each file in ``staging`` → its records.
    :return: ``place``, where they are once the unit completes; ``records_of``; and ``bytes``.
    """
    for name in records_of:
        work.leave(work.staging / name)
    return {"place": work.place, "records_of": records_of, "bytes": written_bytes}


def join(work: Work) -> dict[str, Any]:
    """Make the files of a job of its shares. Repeating it makes every file again.

    Params: ``join``, how many there are. One that is being done again counts as it was: it will not become another.

    :return: as :func:`services.exporter.handlers.export`.
    :raises PermanentError: a share is gone.
    """
    shares = _outputs(work)
    with work.reader() as connection:
        expected = Counter[str]()
        for section in sections_of(connection, work.job_id):
            expected[name_of(section.year)] += section.records
    found = sum((Counter(share["records_of"]) for share in shares), Counter[str]())
    if found != expected:
        raise RuntimeError(f"the shares have {found}, and the snapshot holds {expected}")
    with work.lock(FULL), HashedFile(work.staging / FULL) as full:
        for name, records in expected.items():
            with HashedFile(work.staging / name) as file:
                for share in shares:
                    if name in share["records_of"]:
                        _append(work, share["place"], name, [file, full])
            work.publish(file.path, name, records=records, sha256=file.sha256)
    work.publish(full.path, FULL, records=expected.total(), sha256=full.sha256)
    work.progress(0, 0)  # nothing but what the shares have counted
    written_bytes = sum(share["bytes"] for share in shares)
    return {"records": expected.total(), "bytes": written_bytes, "files": [file.name for file in work.files]}


def _outputs(work: Work) -> list[dict[str, Any]]:
    """Return what the units of the shares returned, in the order of the shares."""
    units = select(Unit.output).where(Unit.task_id == work.assignment.task_id, Unit.params.has_key("share"))
    outputs = list(work.session.scalars(units.order_by(Unit.params["share"].as_integer())))
    if len(outputs) != work.params["join"]:
        raise RuntimeError(f"there are {len(outputs)} shares, not {work.params['join']}")
    return outputs


def _append(work: Work, place: str, name: str, files: Sequence[HashedFile]) -> None:
    path = work.export.directory / place / name
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise PermanentError(
            f"A share of the export is gone ({place}/{name}). Restart the job from its export task."
        ) from None
    with source:
        while block := source.read(COPY_BYTES):
            for file in files:
                file.write(block)
