"""Archives: the same files, the same bytes."""

import os
import subprocess
import tarfile

from services.flattener.archive import pack


def make(directory, names, time):
    directory.mkdir()
    for name in names:
        (directory / name).write_text(f"column\n{name}\n")
        os.utime(directory / name, (time, time))
    return directory


def test_an_archive_holds_one_directory_of_the_files_by_name(tmp_path):
    directory = make(tmp_path / "csv", ["main.csv", "awards.csv", "é" * 120 + ".csv"], time=1)
    pack(directory, tmp_path / "2021.csv.tar.gz", "2021")
    with tarfile.open(tmp_path / "2021.csv.tar.gz") as tar:
        assert tar.getnames() == ["2021", "2021/awards.csv", "2021/main.csv", f"2021/{'é' * 120}.csv"]
        assert tar.extractfile("2021/main.csv").read() == b"column\nmain.csv\n"


def test_tar_unpacks_it_for_its_user_to_read_and_change(tmp_path):
    pack(make(tmp_path / "csv", ["main.csv"], time=1), tmp_path / "a.tar.gz", "2021")
    subprocess.run(["tar", "xzf", "a.tar.gz", "--no-same-owner"], cwd=tmp_path, check=True)
    assert (tmp_path / "2021").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "2021" / "main.csv").stat().st_mode & 0o777 == 0o644


def test_the_same_files_give_the_same_bytes(tmp_path):
    archives = []
    for number, names in enumerate([["main.csv", "awards.csv"], ["awards.csv", "main.csv"]]):
        archive = tmp_path / f"{number}.tar.gz"
        pack(make(tmp_path / str(number), names, time=number * 1000), archive, "2021")
        archives.append(archive.read_bytes())
    assert archives[0] == archives[1]
    assert archives[0][4:8] == bytes(4), "the gzip header has no time"
