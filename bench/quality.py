"""How fast are records checked, beside what a JSON Schema validator would take? ``python bench/quality.py``.

Checks releases in memory (of a file, or generated from the bundled sample) and prints records and megabytes a second of
this process's own time, which other work on the machine disturbs least; then where the time goes, and the most memory
that was in use. With ``--schema FILE``, the same records are validated against that JSON Schema by jsonschema-rs.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from services.processor.quality.inspector import Inspector
from services.processor.quality.rules import release_shape
from services.processor.quality.tally import tallies
from services.processor.quality.walk import Walk
from shared.own_schema import compile_schema
from shared.sample import PACKAGES


def read(source: Path | None, count: int) -> list[tuple[str, str]]:
    """Return ocid and text of releases: those of a JSON Lines file, or the sample's again and again."""
    if source is not None:
        with source.open() as file:
            texts = [line.strip() for line in islice(file, count)]
        return [(json.loads(text)["ocid"], text) for text in texts]
    releases = [
        release for path in sorted(PACKAGES.glob("*.json")) for release in json.loads(path.read_text())["releases"]
    ]
    pairs = [(release["ocid"], json.dumps(release, ensure_ascii=False, separators=(",", ":"))) for release in releases]
    return [pairs[number % len(pairs)] for number in range(count)]


def measure(name: str, records: list[tuple[str, str]], work: Callable[[str, str], object]) -> None:
    """Print what some work on each record takes."""
    size = sum(len(text.encode()) for _, text in records)
    start = time.process_time()
    for ocid, text in records:
        work(ocid, text)
    seconds = time.process_time() - start
    each = seconds / len(records) * 1e6
    print(f"{name:<28} {len(records) / seconds:10,.0f} records/s {size / seconds / 1e6:8.1f} MB/s {each:8.1f} µs each")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--source", type=Path, help="a JSON Lines file of releases; default: the bundled sample")
    parser.add_argument("--schema", type=Path, help="a JSON Schema to compare with")
    args = parser.parse_args()
    records = read(args.source, args.records)
    print(f"{len(records):,} releases, {sum(len(text.encode()) for _, text in records) / 1e6:,.1f} MB")
    inspector, walk, shape = Inspector(ocds=True, now=datetime.now(UTC)), Walk(tallies()), release_shape()
    decode = msgspec.json.Decoder().decode
    measure("decode", records, lambda _, text: decode(text))
    measure("decode, judge each field", records, lambda ocid, text: walk.walk(ocid, decode(text), shape))
    measure("every check", records, inspector.inspect)
    if args.schema is not None:
        validator = compile_schema(json.loads(args.schema.read_bytes()))
        measure("decode, JSON Schema", records, lambda _, text: validator.is_valid(decode(text)))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB at the peak, the records included")


if __name__ == "__main__":
    main()
