import logging
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Features, List, Value
from transformers import AutoTokenizer, ByT5Tokenizer

from moderation.artifacts import default_cache_dir
from moderation.data.encoding import df_to_hfds, prune_tokens
from moderation.errors import ConfigError, DataError
from moderation.labels import JIGSAW_LABELS


@pytest.fixture
def tokenizer(tiny_backbone):
    return AutoTokenizer.from_pretrained(tiny_backbone)


def comments(*texts):
    return pd.DataFrame({"comment_text": texts, "toxic": [float(i % 2) for i in range(len(texts))]})


def arrow_files(cache_dir):
    return sorted(cache_dir.rglob("*.arrow"))


# Columns


def test_columns_and_types(table, tokenizer):
    dataset = df_to_hfds(table.head(5), tokenizer, JIGSAW_LABELS)
    assert dataset.features == Features(
        {
            "input_ids": List(Value("int32")),
            "attention_mask": List(Value("int8")),
            "length": Value("int32"),
            "cut": Value("bool"),
            "labels": List(Value("float32"), length=6),
        }
    )
    assert isinstance(dataset[0]["labels"], list)


def test_rows_come_in_the_frames_order_whatever_its_index(table, tokenizer):
    shuffled = table.sample(50, random_state=3)
    assert not shuffled.index.is_monotonic_increasing
    dataset = df_to_hfds(shuffled, tokenizer, JIGSAW_LABELS, max_length=64)
    assert len(dataset) == 50
    for row, text in zip(dataset, shuffled["comment_text"], strict=True):
        expected = tokenizer(text, truncation=True, max_length=64)
        assert row["input_ids"] == expected["input_ids"]
        assert row["attention_mask"] == expected["attention_mask"] == [1] * row["length"]
    assert np.array_equal(dataset["labels"], shuffled[list(JIGSAW_LABELS)].to_numpy())


def test_targets_are_in_the_order_of_the_labels(table, tokenizer):
    chosen = ("insult", "toxic")
    dataset = df_to_hfds(table.head(40), tokenizer, chosen)
    assert np.array_equal(dataset["labels"], table.head(40)[["insult", "toxic"]].to_numpy())
    assert not np.array_equal(dataset["labels"], table.head(40)[["toxic", "insult"]].to_numpy())


def test_labels_are_found_if_none_are_named(table, tokenizer):
    by_default = df_to_hfds(table.head(40)[["id", "comment_text", *reversed(JIGSAW_LABELS)]], tokenizer)
    assert by_default["labels"][:] == df_to_hfds(table.head(40), tokenizer, JIGSAW_LABELS)["labels"][:]
    spam = pd.DataFrame({"text": ["a", "b c"], "spam": [0, 1], "votes": [3, 5]})
    assert df_to_hfds(spam, tokenizer, text_column="text")["labels"][:] == [[0.0], [1.0]]


def test_probabilities_may_be_targets(tokenizer):
    soft = comments("a", "b").assign(toxic=[0.25, 0.75])
    assert df_to_hfds(soft, tokenizer)["labels"][:] == [[0.25], [0.75]]


def test_the_tokenizer_decides_about_case(tokenizer):
    kept, lowered = df_to_hfds(comments("Kind RIVER", "kind river"), tokenizer)["input_ids"]
    assert kept == lowered  # this one lowers them itself


# Cutting


def test_a_text_that_just_fits_is_not_cut(tokenizer, caplog):
    """Eight tokens: six words between [CLS] and [SEP]."""
    six, seven = "a b c d e f", "a b c d e f g"
    with caplog.at_level(logging.INFO):
        dataset = df_to_hfds(comments(six, seven, "a", seven), tokenizer, max_length=8)
    assert dataset["cut"][:] == [False, True, False, True]
    assert dataset["length"][:] == [8, 8, 3, 8]
    assert dataset[0]["input_ids"] == dataset[1]["input_ids"]
    assert "4 texts, 2 of them cut at 8 tokens" in caplog.text
    assert df_to_hfds(comments(six, seven), tokenizer, max_length=9)["cut"][:] == [False, False]


def test_an_empty_text_is_a_row_too(tokenizer):
    dataset = df_to_hfds(comments("", "a"), tokenizer)
    assert dataset["length"][:] == [2, 3]


def test_never_more_than_the_model_reads(tokenizer, caplog):
    assert tokenizer.model_max_length == 64
    with caplog.at_level(logging.INFO):
        dataset = df_to_hfds(comments("a " * 100, "a"), tokenizer, max_length=256)
    assert dataset["length"][:] == [64, 3]
    assert "1 of them cut at 64 tokens" in caplog.text


# Cache


def encode(df, tokenizer, cache_dir, **options):
    return df_to_hfds(df, tokenizer, cache_dir=cache_dir, **options)


def test_the_second_call_reads_what_the_first_one_wrote(table, tokenizer, tmp_path):
    df = table.head(40)
    first = encode(df, tokenizer, tmp_path)
    (written,) = arrow_files(tmp_path)
    inode, content = written.stat().st_ino, written.read_bytes()

    second = encode(df.copy(), tokenizer, str(tmp_path))
    assert arrow_files(tmp_path) == [written]
    assert written.stat().st_ino == inode
    assert written.read_bytes() == content
    assert [file["filename"] for file in second.cache_files] == [str(written)], "tokens come from the file"
    assert second.to_dict() == first.to_dict() == df_to_hfds(df, tokenizer).to_dict()
    assert second.features == first.features == df_to_hfds(df, tokenizer).features


def test_a_tokenizer_that_was_loaded_again_or_used_elsewhere_finds_the_file(tiny_backbone, tokenizer, tmp_path):
    df = comments("a b c", "d")
    encode(df, tokenizer, tmp_path)
    tokenizer("a b c d e f g h", truncation=True, padding="max_length", max_length=10)  # it remembers both
    encode(df, tokenizer, tmp_path)
    encode(df, AutoTokenizer.from_pretrained(tiny_backbone), tmp_path)
    assert len(arrow_files(tmp_path)) == 1


def test_other_targets_share_the_file_and_keep_their_own_values(tokenizer, tmp_path):
    df = comments("a", "b")
    one = encode(df, tokenizer, tmp_path)
    other = encode(df.assign(toxic=1 - df["toxic"]), tokenizer, tmp_path)
    assert len(arrow_files(tmp_path)) == 1
    assert one["labels"][:] == [[0.0], [1.0]]
    assert other["labels"][:] == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("texts", "others"),
    [
        (("a b", "c"), ("a b", "d")),
        (("a b", "c"), ("c", "a b")),
        (("ab", "c"), ("a", "bc")),  # the same letters, cut elsewhere
        (("ab", "c"), ("abc", "")),
        (("a\x00b", "c"), ("a", "b\x00c")),
        (("A", "c"), ("a", "c")),  # this tokenizer does not mind, another one would
        (("\u00e9", "c"), ("e\u0301", "c")),
    ],
)
def test_other_texts_are_encoded_again(tokenizer, tmp_path, texts, others):
    encode(comments(*texts), tokenizer, tmp_path)
    assert (
        encode(comments(*others), tokenizer, tmp_path).to_dict() == df_to_hfds(comments(*others), tokenizer).to_dict()
    )
    assert len(arrow_files(tmp_path)) == 2


def test_another_length_or_tokenizer_is_encoded_again(tiny_backbone, tokenizer, tmp_path):
    df = comments("a b c d e f g h i j", "a")
    encode(df, tokenizer, tmp_path, max_length=32)
    assert encode(df, tokenizer, tmp_path, max_length=8)["length"][:] == [8, 3]
    left = AutoTokenizer.from_pretrained(tiny_backbone, truncation_side="left")
    assert encode(df, left, tmp_path, max_length=8)[0] != encode(df, tokenizer, tmp_path, max_length=8)[0]
    richer = AutoTokenizer.from_pretrained(tiny_backbone)
    richer.add_tokens(["river bread"])
    encode(df, richer, tmp_path, max_length=32)
    assert len(arrow_files(tmp_path)) == 4
    encode(df, tokenizer, tmp_path, max_length=256)
    encode(df, tokenizer, tmp_path, max_length=64)  # 256 means no more than the 64 of this tokenizer
    assert len(arrow_files(tmp_path)) == 5


def test_without_a_cache_nothing_is_kept(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("MODERATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    dataset = df_to_hfds(comments("a", "b"), tokenizer)
    assert not dataset.cache_files
    assert list(tmp_path.iterdir()) == []


def test_the_cache_drops_what_nobody_used(tokenizer, tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    now = time.time()
    mine = {"diary.arrow": 400, "tmpkilled.txt": 400, f"{0:033x}.arrow": 400, f"{99:032X}.arrow".lower() + "x": 400}
    ages = {f"{place:032x}.arrow": place for place in range(25)} | {"tmpk1l_ed00": 31, f"{77:032x}.sha256": 31}  # days
    for name, age in (ages | mine).items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (now - age * 86_400 - 60,) * 2)
    (folder / "a folder").mkdir()
    encode(comments("a", "b"), tokenizer, tmp_path)
    left = {path.name for path in folder.iterdir()} - {"a folder"}
    assert mine.keys() <= left, "files that are none of ours"
    assert {f"{place:032x}.arrow" for place in range(19)} <= left
    assert len(left - mine.keys()) == 20 + 1, "the new one has its hash beside it"
    assert folder.stat().st_mode & 0o777 == 0o700 or os.name == "nt"


def test_encodings_in_use_are_kept_longer(tokenizer, tmp_path):
    encode(comments("a", "b"), tokenizer, tmp_path)
    [file] = arrow_files(tmp_path)
    for age, is_kept in ((29, True), (31, False)):
        os.utime(file, (time.time() - age * 86_400,) * 2)
        prune_tokens(file.parent)
        assert file.exists() == is_kept
    encode(comments("a", "b"), tokenizer, tmp_path)
    os.utime(file, (time.time() - 29 * 86_400,) * 2)
    encode(comments("a", "b"), tokenizer, tmp_path)  # read back
    assert time.time() - file.stat().st_mtime < 86_400


@pytest.mark.hostile("damaged cache")
def test_a_damaged_file_is_made_again(tokenizer, tmp_path, caplog, attack):
    df = comments(*(f"kind river bread {place}" for place in range(9)))
    expected = encode(df, tokenizer, tmp_path).to_dict()
    (file,) = arrow_files(tmp_path)
    whole, beside = file.read_bytes(), file.with_suffix(".sha256")
    rng = np.random.default_rng(5)
    n_cases = attack.cases(4, 300)
    for case in range(n_cases):
        damaged, place = bytearray(whole), int(rng.integers(len(whole)))
        if case % 4 == 0:
            damaged[place : place + 4096] = bytes(len(damaged[place : place + 4096]))
        elif case % 4 == 1:
            del damaged[place:]
        else:
            damaged[place] ^= 1 << int(rng.integers(8))
        file.unlink()  # the first encoding is still mapped
        file.write_bytes(damaged)
        assert encode(df, tokenizer, tmp_path).to_dict() == expected, f"case {case}"
        assert file.read_bytes() == whole
    for content in ("0" * 64, "\u00e9"):
        beside.write_text(content)
        assert encode(df, tokenizer, tmp_path).to_dict() == expected
    beside.unlink()
    assert encode(df, tokenizer, tmp_path).to_dict() == expected
    assert beside.exists() and not caplog.records
    attack.tried(n_cases + 3)


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_a_cache_behind_a_link_is_left_alone(tokenizer, tmp_path, caplog):
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tokens").symlink_to(tmp_path / "home")
    assert len(encode(comments("a", "b"), tokenizer, tmp_path / "cache")) == 2
    assert "cannot be used (ArtifactError); continuing without it" in caplog.text
    assert not [*(tmp_path / "home").iterdir()] and (tmp_path / "home").stat().st_mode & 0o777 == 0o755


def test_the_cache_is_found(monkeypatch):
    monkeypatch.setenv("MODERATION_CACHE", "/somewhere/else")
    assert default_cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("MODERATION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_dir() == Path("/caches/moderation")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "moderation"


# Refusals, none of which may quote a text


def refusal(df, tokenizer, *args, **options):
    with pytest.raises(DataError) as caught:
        df_to_hfds(df, tokenizer, *args, **options)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None or "secret" not in str(caught.value.__cause__)
    return str(caught.value)


def test_absent_columns_are_refused(tokenizer):
    message = refusal(comments("secret a", "secret b"), tokenizer, ("toxic", "threat"), text_column="body")
    assert "no column 'body', 'threat'" in message
    assert "comment_text, toxic" in message


def test_no_labels_and_no_rows(tokenizer):
    assert "no label columns" in refusal(comments("secret a", "secret b")[["comment_text"]], tokenizer)
    assert "no rows" in refusal(comments("secret a", "secret b").head(0), tokenizer, ("toxic",))


@pytest.mark.parametrize("dtype", ["str", object])
def test_missing_texts_are_refused(tokenizer, dtype):
    df = comments("secret a", "secret b", "secret c", "secret d")
    df["comment_text"] = pd.Series(["secret a", None, "secret c", None], dtype=dtype)
    message = refusal(df, tokenizer)
    assert "2 " in message
    assert "comment_text" in message


def test_values_that_are_not_texts_are_refused(tokenizer):
    df = comments("secret a", "secret b", "secret c")
    df["comment_text"] = pd.Series(["secret a", 5, "\ud800 secret"], dtype=object)
    message = refusal(df, tokenizer)
    assert "2 values are not text" in message
    assert "rows 2, 3" in message


@pytest.mark.parametrize("value", [-1, 2, np.inf, "secret"])
def test_targets_outside_the_range_are_refused(tokenizer, value):
    df = comments("secret a", "secret b", "secret c")
    df.index = ["x", "y", "z"]  # rows are counted, whatever they are called
    df["toxic"] = pd.Series([0, value, 1], dtype=object, index=df.index)
    message = refusal(df, tokenizer, ("toxic",))
    assert "label 'toxic': 1 value" in message
    assert "row 2" in message


def test_unknown_targets_stay_unknown_and_are_counted(tokenizer, caplog):
    df = comments("a text", "b text").assign(toxic=[1.0, np.nan])
    with caplog.at_level("INFO"):
        encoded = df_to_hfds(df, tokenizer, ("toxic",))
    assert np.isnan(encoded[1]["labels"]).all()
    assert "1 of 2 targets are unknown" in caplog.text


def test_a_text_column_used_as_a_label_is_refused(tokenizer):
    df = comments("secret a", "secret b").assign(note=["secret", "secret too"])
    assert "'note': 2 values are not numeric" in refusal(df, tokenizer, ("toxic", "note"))
    assert "both text and label" in refusal(df, tokenizer, ("comment_text",))


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="expected a fast tokenizer"):
        df_to_hfds(comments("a", "b"), ByT5Tokenizer())


@pytest.mark.parametrize("max_length", [7, 0, -1])
def test_a_length_without_room_for_words_is_refused(tokenizer, max_length):
    with pytest.raises(ConfigError, match=f"max_length is {max_length}, expected 8 or more"):
        df_to_hfds(comments("a", "b"), tokenizer, max_length=max_length)
