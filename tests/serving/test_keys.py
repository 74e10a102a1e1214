"""API keys: made once, kept as hashes, found again; files that are none are refused."""

import json
from pathlib import Path

import pytest

from moderation import cli
from moderation.errors import ArtifactError, ConfigError
from moderation.serving.keys import add_key, list_keys, read_keys, remove_key


def test_a_key_is_found_under_its_name_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    forum, game = add_key(path, "forum"), add_key(path, "game")
    keys = read_keys(path)
    assert (keys.find(forum), keys.find(game), len(keys)) == ("forum", "game", 2)
    assert keys.find("") is keys.find(forum + "x") is keys.find("\ud800") is None
    assert forum not in path.read_text() and game not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_removed_key_is_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "forum")
    remove_key(path, "forum")
    assert read_keys(path).find(key) is None
    with pytest.raises(ConfigError, match="holds no key named forum"):
        remove_key(path, "forum")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../etc", "-x"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected up to 64 letters"):
        add_key(tmp_path / "keys.json", name)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "forum")
    with pytest.raises(ConfigError, match="holds a key named forum"):
        add_key(tmp_path / "keys.json", "forum")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "no json",
        '{"format": "content-moderation keys"}',
        '{"format": "content-moderation keys", "keys": {"a": {"sha256": "ff"}}}',
        '{"format": "content-moderation keys", "keys": {"a": "ff"}}',
    ],
)
def test_another_file_is_no_file_of_keys(content: str, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ArtifactError, match="keys"):
        read_keys(tmp_path / "keys.json")


def test_the_verb_adds_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "keys.json")
    assert cli.main(["keys", "add", "--keys", path, "--name", "forum"]) == 0
    key = capsys.readouterr().out.strip()
    assert read_keys(Path(path)).find(key) == "forum"
    assert cli.main(["keys", "list", "--keys", path]) == 0
    assert capsys.readouterr().out.split()[1] == "forum"
    assert cli.main(["keys", "remove", "--keys", path, "--name", "forum"]) == 0
    assert list_keys(Path(path)) == {} and json.loads(Path(path).read_text())["keys"] == {}
    assert cli.main(["keys", "add", "--keys", path]) == 2
    assert "--name is missing" in capsys.readouterr().err
