"""Cores: those of the affinity, or fewer where a container has a quota."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moderation import cli, cores
from moderation.commands import serve
from moderation.config import ServeConfig
from moderation.cores import count_cores, read_quota
from moderation.options import build, flatten


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({}, None),
    ],
)
def test_a_quota_is_read_from_either_version_of_control_groups(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    assert read_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (1.5, 2), (0.2, 1), (64.0, 8), (3.0, 3)])
def test_the_smaller_of_affinity_and_quota_counts(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "read_quota", lambda _: quota)
    assert count_cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity of Linux")
def test_a_process_that_is_bound_to_one_core_counts_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from moderation.cores import count_cores; print(count_cores())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path(__file__).parents[1]) == "1\n"


@pytest.mark.parametrize("verb", ["score", "verify", "train", "export", "evaluate"])
def test_more_threads_than_cores_are_reported_and_not_used(
    verb: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cli, "count_cores", lambda: 2)
    settings: dict[str, dict[str, object]] = {
        "score": {"input_path": Path("-")},
        "train": {"data_path": Path("x")},
        "export": {"run": "r", "to": "t"},
    }
    settings |= {"evaluate": {"checkpoint": Path("c")}}
    config = cli.VERBS[verb].config_class
    given = settings.get(verb, {})

    def fitted(**threads: int) -> object:
        return flatten(cli._fit_threads(build(config, given | threads)))["threads"]

    assert fitted(threads=64) == 2
    assert caplog.messages == ["--threads 64: only 2 cores are available; using 2."]
    assert fitted(threads=2) == 2
    assert fitted() is None
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("settings", "expected", "n_warnings"),
    [
        ({}, 4, 0),
        ({"workers": 2}, 2, 0),
        ({"workers": 2, "threads": 2}, 2, 0),
        ({"workers": 2, "threads": 3}, 2, 1),
        ({"threads": 5}, 4, 1),
        ({"workers": 8}, 1, 1),
        ({"workers": 8, "threads": 2}, 1, 2),
    ],
)
def test_workers_share_the_cores(
    settings: dict[str, int],
    expected: int,
    n_warnings: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(serve, "count_cores", lambda: 4)
    assert serve._share_cores(build(ServeConfig, settings)) == expected
    assert len(caplog.messages) == n_warnings
