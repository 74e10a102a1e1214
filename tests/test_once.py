"""What the tests share is made once per machine, for the code that makes it."""

import os
from pathlib import Path

import pytest

from tests import conftest


def test_a_folder_is_made_once_and_again_where_its_making_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "tests_cache", lambda: tmp_path)
    made: list[Path] = []

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / f"file-{len(made)}").touch()
        made.append(folder)
        if len(made) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conftest.cached("thing", make)
    for _ in range(2):
        assert [path.name for path in conftest.cached("thing", make).iterdir()] == ["file-1"]
    assert made == [tmp_path / "thing"] * 2


def test_another_seed_has_another_cache_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_CACHE", str(tmp_path))
    (tmp_path / "mine").mkdir()
    places = [conftest.tests_cache.__wrapped__()]
    monkeypatch.setattr(conftest, "SEED", conftest.SEED + 1)
    os.utime(places[0], (0, 0))  # long unused
    places.append(conftest.tests_cache.__wrapped__())
    assert len({*places}) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content-moderation-tests", "mine"]
    assert not places[0].exists()
