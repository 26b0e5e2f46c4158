"""One million small records through the whole line: is every worker's memory flat? ``make bench-scale``.

Writes JSON Lines (or takes a file), runs ``bowerbird publish`` on it in a data directory of its own, samples the
resident memory of every process of the suite, and prints the peak of each service, the tasks' durations and the files.
Exits 1 if a record is missing, or collector, processor or exporter went over the limit. Linux only (reads /proc).
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

LIMIT_MB = 300
LIMITED = ("collector", "processor", "exporter")
SAMPLE_SECONDS = 0.2
BOWERBIRD = (sys.executable, "-c", "from shared.cli import main; main()")


def write_records(path, count):
    """Write ``count`` small compiled releases over ten years, about 200 bytes each."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            year = 2015 + number % 10
            file.write(
                f'{{"ocid":"ocds-b0w3rb-{number:08d}","id":"{number}",'
                f'"date":"{year}-{1 + number % 12:02d}-01T00:00:00Z",'
                f'"tag":["compiled"],"tender":{{"id":"{number}","title":"Chairs and tables, lot {number % 97}",'
                f'"value":{{"amount":{number % 100_000}.50,"currency":"EUR"}}}}}}\n'
            )


class MemorySampler(threading.Thread):
    """Peak resident memory of each process below one, by what its command line says it is."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.done, self.peaks = root, threading.Event(), defaultdict(int)

    def run(self):
        while not self.done.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self):
        parents, names, memory = {}, {}, {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                status = (directory / "status").read_text()
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            pid = int(directory.name)
            parents[pid] = int(fields["PPid"])
            names[pid] = command
            memory[pid] = int(fields.get("VmRSS", "0 kB").split()[0])
        for pid, kilobytes in memory.items():
            service = self.service(pid, parents, names)
            if service:
                role = "child" if "multiprocessing" in names[pid] else "parent"
                self.peaks[service, role] = max(self.peaks[service, role], kilobytes)

    def service(self, pid, parents, names):
        """Return the service a process belongs to: its own command line's, or an ancestor's."""
        service, below_root = None, False
        while pid in parents:
            words = names[pid].split()
            if service is None and "-m" in words and words[words.index("-m") + 1].startswith("services."):
                service = words[words.index("-m") + 1].removeprefix("services.")
            below_root = below_root or pid == self.root
            pid = parents[pid]
        return service if below_root else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--source", type=Path, help="use this file instead of writing one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bowerbird-scale-") as name:
        folder = Path(name)
        source = args.source or folder / "records.jsonl"
        if args.source is None:
            write_records(source, args.records)
        print(f"{args.records:,} records, {source.stat().st_size / 1e6:,.0f} MB")
        process = subprocess.Popen(
            [*BOWERBIRD, "publish", str(source), "--out", str(folder / "out"), "--json"],
            env={**os.environ, "BOWERBIRD_DATA_DIR": str(folder / "data")},
            stdout=subprocess.PIPE,
            text=True,
        )
        sampler = MemorySampler(process.pid)
        sampler.start()
        output = process.communicate()[0]
        sampler.done.set()
        sys.exit(report(json.loads(output)["job"], sampler.peaks, folder / "out", args.records))


def report(job, peaks, out, expected):
    """Print what was measured; return the exit status."""
    for task in job["tasks"]:
        print(f"{task['type']:<10} {task['result']:<7} {task['duration_seconds']:8.1f} s")
    for (service, role), kilobytes in sorted(peaks.items()):
        print(f"{service:<10} {role:<7} {kilobytes / 1024:8.0f} MB at its peak")
    with gzip.open(out / "full.jsonl.gz") as file:
        exported = sum(1 for _ in file)
    print(f"full.jsonl.gz holds {exported:,} records")
    over = [
        f"{service} {role}"
        for (service, role), kilobytes in peaks.items()
        if service in LIMITED and kilobytes / 1024 > LIMIT_MB
    ]
    for name in over:
        print(f"{name} went over {LIMIT_MB} MB")
    return 1 if over or exported != expected else 0


if __name__ == "__main__":
    main()
