"""Bundles of strangers: each is refused by one error that names it, or it answers; none hangs or crashes."""

import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from moderation import Classifier, cli
from moderation.bundles import find_foreign, read_bundle
from moderation.errors import ArtifactError
from moderation.manifests import MANIFEST
from tests.attack_table import Attack
from tests.bundle_mutator import (
    Mutation,
    added_things,
    file_mutations,
    graph_mutations,
    manifest_mutations,
    mutate,
    random_mutations,
    seal,
    tokenizer_mutations,
)
from tests.bundle_trial import Trials, try_bundle

SEED = 7
FILES = ("config.json", "tokenizer.json", "onnx/model.onnx", "parity.json")
HEAVY = {"slow", "large"}  # seconds, and gigabytes where nothing stops them


@pytest.fixture(scope="module")
def lean(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with its form onnx alone."""
    folder = tmp_path_factory.mktemp("lean") / "bundle"
    content = json.loads((tiny_bundle / MANIFEST).read_text())
    content["files"] = {name: content["files"][name] for name in FILES}
    content["forms"] = {"onnx": content["forms"]["onnx"]}
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_bundle / name, folder / name)
    (folder / MANIFEST).write_text(json.dumps(content))
    seal(folder)
    assert try_bundle(folder) == "answered"
    return folder


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Trials]:
    trials = Trials(tmp_path / "stderr")
    yield trials
    trials.close()


def some(mutations: Sequence[Mutation], n: int, attack: Attack) -> list[Mutation]:
    """A few of them, the same ones each time; with `--long` all."""
    n = attack.cases(n, len(mutations))
    return [*mutations] if n == len(mutations) else random.Random(SEED).sample(mutations, n)


def try_all(
    lean: Path,
    work: Path,
    mutations: Sequence[Mutation],
    attack: Attack,
    trials: Trials,
    capfd,
    *,
    seed: int = SEED,
    fine: tuple[str, ...] = ("refused", "answered"),
) -> list[str]:
    """Try them here, or with `--long` in a process with limits; whatever went wrong, with its name and seed."""
    found = []
    for mutation in mutations:
        if not attack.long and mutation.name in HEAVY:
            continue
        folder = work / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        mutate(lean, folder, mutation, seed)
        verdict = trials.run(folder) if attack.long else try_bundle(folder)
        said = "" if attack.long else capfd.readouterr().err
        if verdict not in fine or said:
            found.append(f"{mutation.kind}: {mutation.name} (seed {seed}): {verdict} {said[:300]}")
        attack.tried()
    return found


@pytest.mark.hostile("bundle: manifests, resealed")
def test_a_manifest_with_any_content_is_read_or_refused(lean, tmp_path, attack, trials, capfd):
    mutations = some(manifest_mutations(), 18, attack)
    mutations += [one for one in random_mutations(attack.cases(16, 600)) if one.kind == "manifest"]
    assert not try_all(lean, tmp_path, mutations, attack, trials, capfd)


@pytest.mark.hostile("bundle: ONNX, tokenizer malicious")
def test_a_tokenizer_with_any_content_is_read_or_refused(lean, tmp_path, attack, trials, capfd):
    mutations = some(tokenizer_mutations(), 18, attack)
    mutations += [one for one in random_mutations(attack.cases(12, 600)) if one.kind == "tokenizer"]
    assert not try_all(lean, tmp_path, mutations, attack, trials, capfd)


@pytest.mark.hostile("bundle: ONNX, tokenizer malicious")
def test_a_graph_with_any_content_is_read_or_refused(lean, tmp_path, attack, trials, capfd):
    mutations = some([one for one in graph_mutations() if not one.name.startswith("weights")], 14, attack)
    assert not try_all(lean, tmp_path, mutations, attack, trials, capfd)


@pytest.mark.hostile("bundle: ONNX external data")
def test_weights_that_lie_elsewhere_are_refused(lean, tmp_path, attack):
    for mutation in (one for one in graph_mutations() if one.name.startswith("weights")):
        mutate(lean, tmp_path / mutation.name.replace(" ", "-"), mutation, SEED)
        assert try_bundle(tmp_path / mutation.name.replace(" ", "-")) == "refused", mutation.name
        attack.tried()


@pytest.mark.hostile("bundle: files flipped, cut, missing, linked")
def test_a_file_that_was_exchanged_is_refused(lean, tmp_path, attack, trials, capfd):
    for seed in range(attack.cases(1, 10)):
        mutations = some(file_mutations(), 8, attack)
        assert not try_all(lean, tmp_path, mutations, attack, trials, capfd, seed=seed, fine=("refused",))


@pytest.mark.hostile("bundle: added things")
def test_additional_files_are_found(lean, tmp_path, attack, capsys):
    things = added_things()
    for place, mutation in enumerate(things):
        folder = tmp_path / str(place)
        mutate(lean, folder, mutation, SEED)
        found = find_foreign(read_bundle(folder))
        assert found, mutation.name
        if attack.long:
            assert cli.main(["verify", str(folder), "--threads", "1"]) == 1
            assert f"{found[0]}: not listed in {MANIFEST}" in capsys.readouterr().out
        attack.tried()
    assert not find_foreign(read_bundle(lean))


@pytest.mark.hostile("bundle: ONNX, tokenizer malicious")
@pytest.mark.parametrize("name", ["normaliser runs away", "normaliser grows behind a letter", "NaN"])
def test_the_command_ends_with_one_error(lean, tmp_path, name, capfd):
    mutation = next(one for one in [*tokenizer_mutations(), *graph_mutations()] if one.name == name)
    mutate(lean, tmp_path / "bundle", mutation, SEED)
    assert cli.main(["score", "--text", "a river", "--model", str(tmp_path / "bundle")]) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "panicked" not in said
    assert str(tmp_path / "bundle") in said


@pytest.mark.hostile("bundle: manifests, resealed")
def test_verify_reports_that_the_answers_differ(lean, tmp_path, capsys):
    shuffled = next(one for one in tokenizer_mutations() if one.name == "vocabulary shuffled")
    mutate(lean, tmp_path / "bundle", shuffled, SEED)
    (tmp_path / "bundle" / "empty").mkdir()
    assert cli.main(["verify", str(tmp_path / "bundle"), "--threads", "1"]) == 1
    said = capsys.readouterr().out
    assert "its answers on odd texts differ from those at the export" in said
    assert f"empty: not listed in {MANIFEST}" in said


def test_transformers_finds_no_file_that_is_not_sealed(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "vocab.txt").write_text("a")
    assert try_bundle(folder, "onnx") == "answered"
    assert try_bundle(folder, "torch") == "refused"


def test_an_answer_that_is_not_a_number_does_not_count_as_nothing_flagged(lean, monkeypatch):
    classifier = Classifier.load(lean, threads=1)
    engine = classifier.models[0]._open()
    monkeypatch.setattr(engine.backend, "logits", lambda ids, _: np.full((len(ids), 6), np.nan, dtype=np.float32))
    assert np.isnan(classifier.probabilities(["kind river"])).all()
    with pytest.raises(ArtifactError, match="not a number"):
        classifier.classify("kind river")


@pytest.mark.hostile("pipes and devices")
def test_a_configuration_that_is_not_sealed_is_not_opened(lean, tmp_path, attack):
    folder = tmp_path / "bundle"
    shutil.copytree(lean, folder)
    path = folder / "tokenizer_config.json"
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        make()
        assert try_bundle(folder) == "answered"
        assert find_foreign(read_bundle(folder)) == ["tokenizer_config.json"]
        path.unlink()
        attack.tried()
