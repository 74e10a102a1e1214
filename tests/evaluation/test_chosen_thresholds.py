"""Thresholds that a user sets: every form that is handed out is read, everything else is refused with its cure."""

import json
import subprocess
import sys

import numpy as np
import pytest

from moderation.errors import ConfigError
from moderation.evaluation.chosen_thresholds import (
    ChosenThresholds,
    apply_chosen,
    as_chosen,
    choose_thresholds,
    parse_words,
    read_chosen,
    warn_of_other_bundle,
)
from moderation.evaluation.thresholds import save_thresholds, tune_thresholds

LABELS = ("toxic", "insult")


@pytest.fixture
def tuned(tmp_path):
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 2)) < 0.4).astype(np.float32)
    scores = np.clip(truth * 0.5 + rng.random((200, 2)) * 0.5, 0, 1).astype(np.float32)

    def save(**about):
        results = tune_thresholds(scores, truth, LABELS, bootstrap=0)
        save_thresholds(tmp_path / "thresholds.json", results, LABELS, about)
        return tmp_path / "thresholds.json", {label: result.threshold for label, result in results.items()}

    return save


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def apply(chosen, calibrated=True):
    return apply_chosen(chosen, LABELS, (0.5, 0.6), calibrated=calibrated)


def test_the_file_that_tuning_wrote_is_read(tuned):
    path, values = tuned(calibrated=True)
    assert read_chosen(path).values == values
    assert apply(read_chosen(path)) == tuple(values.values())


@pytest.mark.parametrize("content", [{"toxic": 0.8}, {"thresholds": {"toxic": 0.8}, "thresholds_from": "set"}])
def test_a_partial_set_changes_only_the_labels_that_it_names(content, tmp_path):
    assert apply(read_chosen(write(tmp_path / "t.json", content))) == (0.8, 0.6)


def test_the_text_that_the_page_copies_is_read(tmp_path):
    copied = json.dumps({"toxic": 0.7000000000000001, "insult": 1}, indent=2)
    assert apply(read_chosen(write(tmp_path / "t.json", "\ufeff" + copied))) == (0.7000000000000001, 1.0)


@pytest.mark.parametrize(
    ("version", "made_for"),
    [
        ("compact-en@0123456789ab/onnx-int8", "compact-en@0123456789ab"),
        ("compact-en@0123456789ab", "compact-en@0123456789ab"),
        ("my model@" + "0123456789ab" * 5 + "cdef", "my model@0123456789ab"),
        *((other, None) for other in (None, 7, "", "you walnut", "a@b", "a\n@0123456789ab", "a@0123456789ab/", ["a"])),
    ],
)
def test_a_file_for_another_bundle_gets_one_warning_and_another_engine_gets_none(version, made_for, tmp_path, caplog):
    for name, content in (("about", {"about": {"model_version": version}}), ("top", {"model_version": version})):
        path = write(tmp_path / f"{name}.json", content | {"thresholds": {"toxic": 0.8}})
        chosen = choose_thresholds(path, ["insult=0.7"])
        assert chosen.made_for == (() if made_for is None else (made_for,))
        for bundle, is_other in ((made_for, False), ("new@ba9876543210", made_for is not None)):
            caplog.clear()
            warn_of_other_bundle(chosen, bundle)
            assert len(caplog.records) == is_other
            if is_other:
                assert all(said in caplog.text for said in (str(path), made_for, bundle, "moderation migrate --model"))
    warn_of_other_bundle(None, "new@ba9876543210")


def test_thresholds_by_language_of_a_run_are_read_and_a_flag_overrides_them(tmp_path):
    own = {"by_language": {"tr": {"toxic": {"threshold": 0.3}, "insult": 0.2}, "ur-latn": {"toxic": 0.1}}}
    path = write(tmp_path / "t.json", {"thresholds": {"toxic": 0.8}, **own})
    chosen = choose_thresholds(path, ["insult=0.7"])
    assert chosen.values == {"toxic": 0.8, "insult": 0.7}
    assert chosen.by_language == {"tr": {"toxic": 0.3}, "ur-Latn": {"toxic": 0.1}}
    for wrong in ([1], {"tr": 0.5}, {"tr": {"toxic": 2}}, {"und": {"toxic": 0.5}}, {"Deutsch!": {"toxic": 0.5}}):
        with pytest.raises(ConfigError):
            read_chosen(write(tmp_path / "w.json", {"thresholds": {"toxic": 0.8}, "by_language": wrong}))
    with pytest.raises(ConfigError, match="is not a label"):
        apply(ChosenThresholds({}, "t.json", by_language={"tr": {"other": 0.5}}))


def test_a_file_for_two_bundles_fits_both_together(caplog):
    chosen = ChosenThresholds({"toxic": 0.8}, "t.json", made_for=("a@0123456789ab", "b@0123456789ab"))
    warn_of_other_bundle(chosen, "a@0123456789ab", "b@0123456789ab")
    assert not caplog.records
    warn_of_other_bundle(chosen, "a@0123456789ab")
    assert len(caplog.records) == 1


def test_flags_override_the_file_and_the_file_overrides_the_bundle(tmp_path):
    path = write(tmp_path / "t.json", {"toxic": 0.8, "insult": 0.7})
    assert apply(choose_thresholds(path, ["insult=0.9"])) == (0.8, 0.9)
    assert apply(choose_thresholds(None, ["insult=0.9"])) == (0.5, 0.9)
    assert choose_thresholds(None, []) is None
    assert apply(None) == (0.5, 0.6)
    assert parse_words(["a=b=0.5", " c =1e-3"]) == {"a=b": 0.5, "c": 0.001}


@pytest.mark.parametrize(
    "word", ["toxic", "toxic=", "=0.5", "toxic=high", "toxic=0", "toxic=1.01", "toxic=-1", "toxic=nan", "toxic=inf",
             "toxic=1e-60", "toxic=0_1", "0.5", ""],
)  # fmt: skip
def test_a_word_that_sets_nothing_is_refused(word):
    with pytest.raises(ConfigError, match="--threshold"):
        parse_words([word])


def test_a_label_is_set_once():
    with pytest.raises(ConfigError, match="'toxic' is set more than once"):
        parse_words(["toxic=0.5", "insult=0.4", "toxic=0.6"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not valid JSON"),
        ("[0.5]", "not a JSON object"),
        ("{}", "contains no threshold"),
        ('{"toxic": 0.5, "toxic": 0.6}', "'toxic' is set more than once"),
        ('{"thresholds": {"toxic": 0.5, "toxic": 0.5}}', "'toxic' is set more than once"),
        ('{"toxic": "0.5"}', "the threshold of 'toxic' must be a number"),
        ('{"toxic": true}', "the threshold of 'toxic' must be a number"),
        ('{"toxic": null}', "the threshold of 'toxic' must be a number"),
        ('{"toxic": NaN}', "the threshold of 'toxic' must be a number"),
        ('{"toxic": 0}', "above 0"),
        ('{"toxic": 1.5}', "above 0"),
        ('{"toxic": 1e999}', "above 0"),
        ('{"toxic": 9999999999999999999999999}', "above 0"),
        ('{"toxic": {"value": 0.5}}', "the threshold of 'toxic' must be a number"),
        ('{"format": "content-moderation thresholds", "version": 99, "thresholds": {}}', "format version 99"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_file_that_holds_no_thresholds_is_refused_by_name(content, said, tmp_path):
    path = write(tmp_path / "t.json", content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_chosen(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_chosen(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_chosen(tmp_path)


def test_labels_of_another_model_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"'spam', 'rude' are not labels of this model. Its labels: toxic, insult"):
        apply(as_chosen({"spam": 0.5, "toxic": 0.5, "rude": 0.2}))


def test_a_wrong_file_is_not_quoted(tmp_path):
    path = write(tmp_path / "t.json", {"You never told me that.": "zqxsecret", "id": 7})
    with pytest.raises(ConfigError, match="a name of 23 characters") as caught:
        read_chosen(path)
    assert "never" not in str(caught.value)
    assert "zqxsecret" not in str(caught.value)


@pytest.mark.parametrize("calibrated", [True, False])
def test_thresholds_of_the_other_kind_of_probabilities_are_refused(calibrated, tuned):
    path, values = tuned(calibrated=calibrated)
    assert apply(read_chosen(path), calibrated) == tuple(values.values())
    with pytest.raises(ConfigError, match="--threshold LABEL=NUMBER"):
        apply(read_chosen(path), not calibrated)
    path, _ = tuned()
    apply(read_chosen(path), calibrated)


@pytest.mark.parametrize(
    "given", [{"toxic": 0.8}, {"toxic": np.float32(0.8)}, ChosenThresholds({"toxic": 0.8}, "here")]
)
def test_callers_may_give_mappings(given):
    assert apply(as_chosen(given)) == (pytest.approx(0.8), 0.6)


@pytest.mark.parametrize("given", [0.5, [0.5, 0.6], ["toxic=0.5"], {1: 0.5}, {"toxic": "0.5"}, {"": 0.5}, {}])
def test_callers_get_the_same_refusals(given):
    with pytest.raises(ConfigError, match="thresholds"):
        as_chosen(given)


def test_reading_thresholds_imports_little():
    code = "import sys, moderation.evaluation.chosen_thresholds as _\n"
    code += "assert not {'pandas', 'pyarrow', 'scipy', 'sklearn', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
