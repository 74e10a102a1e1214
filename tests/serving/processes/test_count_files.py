"""Files of counts in a folder that is full, gone, or somebody else's: no fault of it ends a process."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from moderation.serving.processes import count_files
from moderation.serving.processes.count_files import _CountFile
from tests.attack_table import Attack


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of 1 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if not mount or not unmount or sys.platform != "linux":
        pytest.skip("needs Linux")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run([unmount, "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no byte on a small disk."""
    with (folder / "fill").open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


COUNT = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from moderation.serving.processes.count_files import take_place
from moderation.serving.metrics import Metrics
take_place(0)
registry = CollectorRegistry()
parts = [kind(f"a_{n}", "A count.", ["label"], registry=registry) for n, kind in enumerate((Counter, Gauge, Histogram))]
for part in parts:
    part.labels("first")
print("ready", flush=True)
sys.stdin.readline()
for number in range(4000):
    for part in parts:
        (part.labels(str(number)).observe if hasattr(part, "observe") else part.labels(str(number)).inc)(1)
assert parts[0].labels("3999")._value.get() == 1
assert Metrics().render() is not None
print("answered", flush=True)
"""


@pytest.mark.hostile("full disk")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_full_disk_kills_no_process_that_counts(small_disk: Path, when: str) -> None:
    """A write to a mapped page without a block on the disk would be SIGBUS."""
    folder = small_disk / "counts"
    folder.mkdir()
    if when == "before":
        fill(small_disk)
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    fill(small_disk)
    said, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "answered\n")
    assert when == "before" or list(folder.glob("counter_*.db"))
    assert when == "after" or not list(folder.glob("*.db")), "a file without room is in the way of who reads it"


@pytest.mark.hostile("full disk")
def test_a_file_keeps_every_count_wherever_the_disk_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """Names of all lengths, and room for none, one or more growths: the counts are those of a dictionary."""
    reserve = count_files._reserve
    for seed in range(attack.cases(4, 200)):
        rng, n_left = random.Random(seed), seed % 4

        def sometimes(descriptor: int, n_bytes: int) -> None:
            nonlocal n_left
            n_left -= 1
            if n_left < 0:
                raise OSError(28, "No space left on device")
            reserve(descriptor, n_bytes)

        monkeypatch.setattr(count_files, "_reserve", sometimes)
        path = tmp_path / f"counter_{seed}.db"
        file, expected = _CountFile(str(path)), {}
        for number in range(3000):
            key = f"{number} " + "é" * rng.randrange(60)
            expected[key] = float(rng.randrange(100))
            file.write_value(key, expected[key], 0.0)  # type: ignore[no-untyped-call]
        entries = file.read_all_values()  # type: ignore[no-untyped-call]
        found = {key.rstrip(): value for key, value, _ in entries}
        assert found == {key.rstrip(): value for key, value in expected.items()}, seed
        file.close()
        if path.exists():  # what stands there can be read, and was counted
            entries = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
            assert {key.rstrip(): value for key, value, *_ in entries}.items() <= found.items(), seed
            assert path.stat().st_blocks * 512 >= path.stat().st_size
        attack.tried()


@pytest.mark.hostile("folder of counts removed")
@pytest.mark.parametrize("left", ["nothing", "a file", "a link", "no parent"])
def test_a_removed_folder_is_made_again_or_not_needed(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in ("ValueClass", "MmapedDict"):
        monkeypatch.setattr(values, name, getattr(values, name))
    with count_files.counts_folder():
        folder = count_files.find_counts()
        assert folder is not None
        shutil.rmtree(folder)
        if left == "a file":
            folder.touch()
        elif left == "a link":
            folder.symlink_to(tmp_path)
        elif left == "no parent":
            folder.parent.rmdir()
        assert count_files.find_counts() is None
        count_files.leave_place(0)
        count_files.renew_folder()
        count_files.take_place(0)
        value = values.ValueClass("counter", "a", "a_total", (), (), "A count.")
        value.inc(2)
        assert value.get() == 2
        assert count_files.worker_ids() == [os.getpid()]
        assert (count_files.find_counts() == folder) is (left == "nothing")
        if left == "nothing":
            (found,) = MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
            assert found.samples[0].value == 2
            assert folder.stat().st_mode & 0o777 == 0o700
        else:
            assert not list(tmp_path.rglob("*.db"))
