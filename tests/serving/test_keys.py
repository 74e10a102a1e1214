"""API keys: made once, kept as hashes, found again; files that are none are refused."""

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moderation import cli
from moderation.errors import ArtifactError, ConfigError
from moderation.locks import claimed
from moderation.serving import keys
from moderation.serving.keys import add_key, list_keys, read_keys, remove_key


def test_a_key_is_found_under_its_name_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    forum, game = add_key(path, "forum"), add_key(path, "game")
    keys = read_keys(path)
    assert (keys.find(forum), keys.find(game), len(keys)) == ("forum", "game", 2)
    assert keys.find("") is keys.find(forum + "x") is keys.find("\ud800") is None
    assert forum not in path.read_text() and game not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_removed_key_is_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "forum")
    remove_key(path, "forum")
    assert read_keys(path).find(key) is None
    with pytest.raises(ConfigError, match="holds no key named forum"):
        remove_key(path, "forum")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../etc", "-x"])
def test_an_impossible_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected up to 64 letters"):
        add_key(tmp_path / "keys.json", name)


def test_a_name_is_used_once(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "forum")
    with pytest.raises(ConfigError, match="already holds a key named forum"):
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
def test_another_file_is_not_a_file_of_keys(content: str, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ArtifactError, match="keys"):
        read_keys(tmp_path / "keys.json")


GOOD = {"sha256": "0" * 64, "created": "2026-01-31"}


@pytest.mark.hostile("keys: odd files")
@pytest.mark.parametrize(
    ("name", "facts", "complaint"),
    [
        ("forum", GOOD | {"sha256": int("1" * 64)}, "sha256"),
        ("forum", GOOD | {"sha256": None}, "sha256"),
        ("forum", GOOD | {"sha256": ["0" * 64]}, "sha256"),
        ("forum", GOOD | {"sha256": "0" * 64 + "\n"}, "sha256"),
        ("forum", GOOD | {"sha256": "\u0661" * 64}, "sha256"),
        ("forum", {}, "sha256"),
        ("forum", 7, "expected"),
        ("forum", GOOD | {"created": 20260131}, "created"),
        ("forum", GOOD | {"created": "\x1b[2J"}, "created"),
        ("forum", GOOD | {"created": "\u202e13-10-6202"}, "created"),
        ("forum", GOOD | {"created": "2026-01-31" * 10}, "created"),
        ("for\x1bum", GOOD, "not a name"),
        ("", GOOD, "not a name"),
    ],
)
def test_a_wrong_entry_is_named(name: str, facts: object, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"format": "content-moderation keys", "keys": {"good": GOOD, name: facts}}))
    for use in (read_keys, list_keys, lambda path: add_key(path, "new"), lambda path: remove_key(path, "good")):
        with pytest.raises(ArtifactError) as caught:
            use(path)
        assert repr(name) in str(caught.value) and complaint in str(caught.value)
        assert "good" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_the_verb_adds_lists_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "keys.json")
    assert cli.main(["keys", "add", "--keys", path, "--name", "forum"]) == 0
    key, said = (stream.strip() for stream in capsys.readouterr())
    assert read_keys(Path(path)).find(key) == "forum"
    assert "reads the change after SIGHUP" in said and key not in said
    assert cli.main(["keys", "list", "--keys", path]) == 0
    assert capsys.readouterr().out.split()[1] == "forum"
    assert cli.main(["keys", "remove", "--keys", path, "--name", "forum"]) == 0
    assert "reads the change after SIGHUP" in capsys.readouterr().out
    assert list_keys(Path(path)) == {} and json.loads(Path(path).read_text())["keys"] == {}
    assert cli.main(["keys", "add", "--keys", path]) == 2
    assert "--name is missing" in capsys.readouterr().err


ADD = """
import sys
from pathlib import Path
from moderation.serving.keys import add_key, remove_key
path, number = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.read(1)
for turn in range(5):
    add_key(path, f"key-{number}-{turn}")
if number == "0":
    remove_key(path, "first")
"""


def run_at_once(code: str, path: Path, n_processes: int) -> None:
    """Start processes, wait until all are there, and let them go."""
    words = [sys.executable, "-c", code, str(path)]
    running = [
        subprocess.Popen([*words, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(n_processes)
    ]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=120)
        assert process.returncode == 0


@pytest.mark.hostile("keys: changed at once")
def test_no_key_is_lost_when_many_are_added_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "first")
    done = threading.Event()
    broken: list[Exception] = []

    def read_on() -> None:
        while not done.is_set():
            try:
                read_keys(path)
            except Exception as error:
                broken.append(error)

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        run_at_once(ADD, path, 8)
    finally:
        done.set()
        reader.join()
    assert not broken, "half a file was read"
    assert set(list_keys(path)) == {f"key-{number}-{turn}" for number in range(8) for turn in range(5)}
    assert [stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()] == [0o600]


@pytest.mark.hostile("keys: changed at once")
def test_threads_of_the_same_process_lose_none_either(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: add_key(path, f"key-{number}"), range(24)))
    keys = read_keys(path)
    assert [keys.find(key) for key in made] == [f"key-{number}" for number in range(24)]


@pytest.mark.hostile("keys: changed at once")
def test_the_lock_of_a_dead_process_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    code = f"""
from pathlib import Path
from moderation.locks import claimed
with claimed(Path({str(path)!r}), "keys"):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
    add_key(path, "forum")
    assert set(list_keys(path)) == {"forum"}


def test_a_lock_that_is_held_for_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setattr(keys, "WAIT_S", 0.05)
    with claimed(path, "keys"), pytest.raises(ArtifactError, match="another process"):
        add_key(path, "forum")
    add_key(path, "forum")


def test_the_file_is_only_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    for number, mask in enumerate((0o000, 0o022, 0o277)):
        path = tmp_path / f"{number}.json"
        before = os.umask(mask)
        try:
            add_key(path, "forum")
            add_key(path, "game")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "keys.json")
    add_key(tmp_path / "keys.json", "forum")
    add_key(tmp_path / "link.json", "game")
    remove_key(tmp_path / "link.json", "forum")
    assert set(list_keys(tmp_path / "keys.json")) == {"game"}
    assert (tmp_path / "link.json").is_symlink()


def test_a_link_to_nothing_or_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to("nothing.json")
    (tmp_path / "circle.json").symlink_to("circle.json")
    for name in ("gone.json", "circle.json"):
        with pytest.raises(ArtifactError, match="could not be written"):
            add_key(tmp_path / name, "forum")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle.json", "gone.json"]


def test_permissions_of_others_stay(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "forum")
    (tmp_path / "keys.json").chmod(0o640)
    add_key(tmp_path / "keys.json", "game")
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o640


def test_removing_from_no_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        remove_key(tmp_path / "keys.json", "forum")
    assert not list(tmp_path.iterdir())
