import json
import os
import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from moderation.documents import to_plain
from moderation.labels import JIGSAW_LABELS
from moderation.run_records import GitState
from moderation.training.environment import (
    PhaseTimer,
    describe_environment,
    describe_git,
    make_reproducible,
    peak_memory_bytes,
)
from moderation.training.model import build_model


def draw():
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()  # noqa: NPY002 - the global one is seeded


def test_the_same_seed_gives_the_same_numbers():
    drawn = []
    for seed in (3, 3, 4):
        make_reproducible(seed, None)
        drawn.append(draw())
    first, again, other = drawn
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_same_seed_gives_the_same_weights_and_dropout(tiny_backbone):
    answers = []
    for seed in (3, 3, 4):
        make_reproducible(seed, None)
        model = build_model(tiny_backbone, JIGSAW_LABELS, random_weights=True).train()
        answers.append(model(input_ids=torch.tensor([[2, 5, 6, 3]])).logits)
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_threads_are_set_only_if_requested():
    make_reproducible(0, 2)
    assert torch.get_num_threads() == 2
    make_reproducible(0, None)
    assert torch.get_num_threads() == 2
    make_reproducible(0, 1)
    assert torch.get_num_threads() == 1


def test_the_environment_can_be_written_as_json_and_names_no_one():
    environment = describe_environment()
    text = json.dumps(to_plain(environment), allow_nan=False)
    assert environment["libraries"]["torch"] == torch.__version__
    assert environment["hardware"].cores == os.cpu_count()
    assert environment["hardware"].memory_bytes == psutil.virtual_memory().total
    assert environment["hardware"].threads == torch.get_num_threads()
    assert environment["processes"] == 1
    assert str(Path.home()) == "/" or str(Path.home()) not in text
    assert str(Path.cwd()) not in text


# Git


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A fresh repository of one commit, apart from the settings of the user."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "file.py").write_text("one = 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "one")
    return folder.resolve()


def git(folder, *words):
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_git_commit_and_changes(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert describe_git(repository) == GitState(commit, dirty=False)
    (repository / "file.py").write_text("one = 2\n")
    assert describe_git(repository) == GitState(commit, dirty=True)
    git(repository, "checkout", "--quiet", "file.py")
    (repository / "new.py").write_text("")
    assert describe_git(repository) == GitState(commit, dirty=True)


def test_a_repository_around_the_package_is_not_its_own(repository):
    """Installed into a virtual environment inside somebody's project, the package has no commit."""
    inside = repository / "venv"
    inside.mkdir()
    assert describe_git(inside) is None


def test_without_repository_commit_or_git_nothing_is_recorded(repository, tmp_path, monkeypatch):
    assert describe_git(tmp_path) is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    assert describe_git(empty) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_git(repository) is None


# Time and memory


def test_phases_add_up_and_one_that_fails_is_timed_too(monkeypatch):
    now = iter([0.0, 2.0, 10.0, 13.0, 20.0, 20.5])
    monkeypatch.setattr("moderation.training.environment.time", SimpleNamespace(perf_counter=lambda: next(now)))
    timer = PhaseTimer()
    for _ in range(2):
        with timer.phase("read"):
            pass
    with pytest.raises(KeyError), timer.phase("train"):
        raise KeyError
    assert list(timer.seconds.items()) == [("read", 5.0), ("train", 0.5)]


def test_peak_memory_covers_held_memory_and_remembers_it():
    held = np.ones(64 * 2**20, dtype=np.uint8)
    now = psutil.Process().memory_info().rss
    peak = peak_memory_bytes()
    # The kernel counts pages per thread and adds them up late: some hundred kilobytes may be missing.
    assert now - 8 * 2**20 <= peak <= psutil.virtual_memory().total
    assert peak > held.nbytes
    del held
    assert peak_memory_bytes() >= peak
