"""A tokenizer's folder from elsewhere: transformers reads a copy, in which nothing points to another file."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moderation.backbones.registry import load_tokenizer
from moderation.commands.check import count_tokens
from moderation.data.encoding import df_to_hfds
from moderation.errors import ArtifactError, DataError
from moderation.inspection.tokenizer_folders import copied
from tests.attack_table import Attack

SECRET = "gatekeeper"
OPENED: list[str] = []
KEYS = ("vocab", "vocab_file", "merges", "merges_file", "tokenizer_file", "special_tokens_map_file", "spm_file")
KEYS += (
    "tokenizer_object",
    "gguf_file",
    "entity_vocab_file",
    "added_tokens_file",
    "sudachi_config_path",
    "chat_template",
)
NAMES_FILES = ("tokenizer_config.json", "special_tokens_map.json")


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(args[0], (str, bytes)):
        OPENED.append(os.fsdecode(args[0]))


sys.addaudithook(_note)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A file of lines that is no model's; nobody may open it."""
    path = tmp_path / "elsewhere" / "secret.txt"
    path.parent.mkdir()
    path.write_text(f"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{SECRET}\n")
    return path


@pytest.fixture
def folder(tiny_backbone: Path, tmp_path: Path) -> Path:
    """A backbone's files without weights."""
    return shutil.copytree(tiny_backbone, tmp_path / "backbone", ignore=shutil.ignore_patterns("*.safetensors"))


def change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def only_words(folder: Path) -> None:
    """Let a folder have a vocabulary only."""
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (folder / "tokenizer.json").unlink()


def planted(foreign: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file with settings, and what stands in it."""
    for name in NAMES_FILES:
        for key in KEYS:
            yield name, {key: str(foreign)}
        yield name, dict.fromkeys(KEYS, str(foreign))
    yield "tokenizer_config.json", {"init_inputs": [str(foreign)]}
    yield "tokenizer_config.json", {"init_inputs": [None, str(foreign)], "vocab": str(foreign)}
    yield "tokenizer_config.json", {"fast_tokenizer_files": [f"../elsewhere/tokenizer.{foreign.name}.json"]}
    yield "tokenizer_config.json", {"mecab_kwargs": {"mecab_option": f"-r {foreign}"}, "sp_model_kwargs": {"x": 1}}


@pytest.mark.hostile("tokenizer: settings that name other files")
@pytest.mark.parametrize("files", ["both", "vocabulary", "neither"])
def test_no_setting_opens_another_file(files: str, folder: Path, foreign: Path, attack: Attack) -> None:
    if files != "both":
        only_words(folder)
    if files == "neither":
        (folder / "vocab.txt").rename(folder / "empty.model")
    for name, content in planted(foreign):
        before = (folder / name).read_text() if (folder / name).exists() else None
        change(folder / name, **content)
        change(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
        OPENED.clear()
        try:
            assert SECRET not in load_tokenizer(folder).get_vocab()
        except ArtifactError:
            assert files == "neither"
        assert str(foreign) not in OPENED
        assert any(path.endswith("tokenizer_config.json") for path in OPENED)
        if before is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(before)
        attack.tried()


@pytest.mark.hostile("tokenizer: settings that name other files")
@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, folder: Path, foreign: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(foreign)
    with pytest.raises(ArtifactError, match=f"{name}: a link out of its folder"):
        load_tokenizer(folder)


def test_links_of_the_hubs_cache_and_within_the_folder_are_followed(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / ("1" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(folder.iterdir()):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    (tmp_path / "link").symlink_to(snapshot)
    found = load_tokenizer(tmp_path / "link")
    assert found("kind").input_ids
    assert found.name_or_path == str(tmp_path / "link")
    (snapshot / "vocab.txt").symlink_to("config.json")
    assert load_tokenizer(snapshot)("kind").input_ids == found("kind").input_ids


@pytest.mark.hostile("tokenizer: files without an end")
@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"])
def test_no_file_is_read_without_an_end(name: str, folder: Path) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ArtifactError, match=rf"{name}: cannot be read \(more than \d+ MiB\)"):
        load_tokenizer(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="a pipe, a socket or a device"):
        load_tokenizer(folder)


@pytest.mark.hostile("tokenizer: settings that name other files")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", {"do_lower_case": "/etc/passwd"}),
        ("tokenizer_config.json", {"model_max_length": "512"}),
        ("tokenizer_config.json", {"extra_ids": 10**9}),
        ("tokenizer_config.json", {"errors": "a" * 2_000}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": "word"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "word"}}}),
        ("tokenizer_config.json", {"extra_special_tokens": [{"content": "a", "weight": 3}]}),
        ("special_tokens_map.json", {"additional_special_tokens": ["a"] * 30_000}),
        ("added_tokens.json", {"a": -1}),
        ("added_tokens.json", {"a": [1]}),
    ],
)
def test_a_setting_of_another_kind_is_refused(name: str, content: dict[str, Any], folder: Path) -> None:
    change(folder / name, **content)
    with pytest.raises(ArtifactError, match=rf"{name}: .*expected .* Get the tokenizer from its source again"):
        load_tokenizer(folder)


def doubling(n_steps: int) -> dict[str, Any]:
    """A normaliser that makes a long text out of every `q`."""
    step = {"type": "Replace", "pattern": {"String": "q"}, "content": "qq"}
    return {"type": "Sequence", "normalizers": [step] * n_steps}


@pytest.mark.hostile("tokenizer: texts that grow")
def test_a_backbones_tokenizer_does_not_make_texts_grow(folder: Path, tmp_path: Path) -> None:
    change(folder / "tokenizer.json", normalizer=doubling(34))
    tokenizer = load_tokenizer(folder)
    with pytest.raises(DataError, match=r"makes a text of 1 characters more than 24 times longer"):
        count_tokens(["q"], tokenizer)
    table = pd.DataFrame({"comment_text": ["kind", "quite a text"], "toxic": [0, 1]})
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DataError, match=r"more than 24 times longer"):
            df_to_hfds(table, tokenizer, ["toxic"], cache_dir=cache)
    token = {"content": "quaqua", "normalized": True, "special": False}
    change(folder / "tokenizer_config.json", added_tokens_decoder={"200": token})
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: makes a text of 6 characters"):
        load_tokenizer(folder)


@pytest.mark.hostile("tokenizer: patterns that run away")
def test_a_backbones_tokenizer_obeys_the_rules_of_a_bundles(folder: Path) -> None:
    step = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
    for normalizer in (step, doubling(300), {"type": "Precompiled", "precompiled_charsmap": "AAAA"}):
        change(folder / "tokenizer.json", normalizer=normalizer)
        with pytest.raises(ArtifactError, match=r"tokenizer\.json: not a usable tokenizer"):
            load_tokenizer(folder)


def test_a_file_of_an_old_version_does_not_name_the_type_of_its_model(folder: Path) -> None:
    expected = load_tokenizer(folder)("you are kind").input_ids
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["type"]
    change(folder / "tokenizer.json", model=content["model"])
    assert load_tokenizer(folder)("you are kind").input_ids == expected


def test_nothing_remains_of_a_copy(folder: Path) -> None:
    with copied(folder) as copy:
        assert {path.name for path in copy.iterdir()} == {"config.json", "tokenizer.json", "tokenizer_config.json"}
        assert json.loads((copy / "config.json").read_text()).keys() <= {"model_type", "transformers_version"}
    assert not copy.exists()


def test_a_temporary_folder_that_cannot_be_used_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(ArtifactError, match=r"to the temporary folder \(No usable .*TMPDIR"):
        load_tokenizer(folder)
