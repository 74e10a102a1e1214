"""The classifier on a real bundle: the same answers alone, in company, in threads, after a fork, from every form."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import FrozenInstanceError
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from moderation import Classifier
from moderation.bundles import MANIFEST, MODEL_CONFIG, TOKENIZER, check_files, read_bundle, write_manifest
from moderation.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from moderation.inference import backends
from moderation.inference import model as model_module
from moderation.manifests import Manifest
from moderation.pretrained import read_pipeline
from tests.bundle_mutator import seal

BACKENDS = ("onnx-int8", "onnx", "torchscript", "torch")
TEXTS = ["kind river", "stupid idiot", "", "  ", "bread 😀 fine", "a b c " * 300, "them damn kill " * 9, "é\x00\u200d"]


@pytest.fixture(scope="module", params=BACKENDS)
def classifier(request, tiny_bundle):
    with Classifier.load(tiny_bundle, backend=request.param, threads=2) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def onnx(tiny_bundle):
    with Classifier.load(tiny_bundle, backend="onnx", threads=2) as classifier:
        yield classifier


def test_probabilities_have_the_promised_form(classifier):
    probabilities = classifier.probabilities(TEXTS)
    assert probabilities.shape == (len(TEXTS), len(classifier.labels))
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert classifier.probabilities([]).shape == (0, len(classifier.labels))
    assert classifier.classify([]) == []


@given(order=st.permutations(range(len(TEXTS))), n=st.integers(1, len(TEXTS)))
@settings(deadline=None, max_examples=6)
def test_a_text_gets_the_same_bytes_alone_and_with_any_other_texts(classifier, order, n):
    together = classifier.probabilities([TEXTS[place] for place in order[:n]])
    alone = np.concatenate([classifier.probabilities([TEXTS[place]]) for place in order[:n]])
    assert together.tobytes() == alone.tobytes()


def test_threads_share_one_classifier(classifier):
    expected = classifier.probabilities(TEXTS).tobytes()
    found = []

    def ask():
        found.extend(classifier.probabilities(TEXTS).tobytes() for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_answers_the_same(onnx):
    expected = onnx.probabilities(TEXTS)
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    children = [context.Process(target=lambda: found.put(onnx.probabilities(TEXTS))) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        assert found.get().tobytes() == expected.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.hostile("classifier: fork while others compute")
def test_a_child_that_is_forked_while_others_compute_and_tokenize_answers_the_same(onnx, attack, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    tokenizer = Tokenizer.from_file(str(onnx.bundle.path / "tokenizer.json"))
    expected = onnx.probabilities(TEXTS)
    done = threading.Event()

    def work():
        while not done.is_set():
            onnx.probabilities(TEXTS)
            tokenizer.encode_batch(TEXTS * 20)  # in threads of its own; a child lacks them, and must not need them

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()

    def use():
        found.put(onnx.probabilities(TEXTS))

    try:
        for _ in range(attack.cases(1, 60)):
            child = context.Process(target=use)
            child.start()
            child.join(120)
            child.kill()
            assert child.exitcode == 0
            assert found.get().tobytes() == expected.tobytes()
            attack.tried()
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("closed", ["in the child", "in the parent"])
def test_a_forked_child_may_close_and_continue(tiny_bundle, backend, closed):
    classifier = Classifier.load(tiny_bundle, backend=backend, threads=2)
    expected = classifier.probabilities(TEXTS)
    if closed == "in the parent":
        classifier.close()
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()

    def use():
        classifier.close()
        classifier.probabilities(TEXTS)
        classifier.close()
        found.put(classifier.probabilities(TEXTS))

    child = context.Process(target=use)
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0
    np.testing.assert_allclose(found.get(), expected, atol=1e-6)


def test_a_classifier_travels_to_a_spawned_process(onnx):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(onnx.probabilities, [TEXTS[:2]]).get(timeout=60)
    assert found.tobytes() == onnx.probabilities(TEXTS[:2]).tobytes()


def test_forms_agree(tiny_bundle):
    answers = {name: Classifier.load(tiny_bundle, backend=name).probabilities(TEXTS) for name in BACKENDS}
    for name, limit in (("onnx", 1e-4), ("torchscript", 1e-5), ("onnx-int8", 0.05)):
        assert np.abs(answers[name] - answers["torch"]).max() <= limit, name


def test_windows_together_answer_nearly_the_same(tiny_bundle, onnx):
    together = Classifier.load(tiny_bundle, backend="onnx", batch_tokens=256).probabilities(TEXTS)
    np.testing.assert_allclose(together, onnx.probabilities(TEXTS), atol=1e-5)


def test_the_highest_window_decides(onnx):
    text = " ".join(["kind river bread"] * 60 + ["stupid idiot damn"] + ["fine river bread"] * 60)
    windows = onnx.windows(text)
    assert len(windows) > 3
    of_windows = onnx.window_probabilities(windows)
    reading = onnx.read([text])
    assert reading.n_windows.tolist() == [len(windows)]
    assert reading.probabilities[0].tobytes() == of_windows.max(axis=0).tobytes()


def test_an_insult_at_the_end_of_a_long_text_is_found(onnx):
    calm = " ".join(["kind river bread fine"] * 5_000)  # 20,000 words
    piece = " ".join(["stupid idiot damn"] * 20)
    plain, loud = onnx.read([calm]), onnx.read([calm + " " + piece])
    alone = onnx.probabilities([piece])
    assert loud.n_windows[0] >= plain.n_windows[0] > 300
    label = int(np.argmax(alone[0] - plain.probabilities[0]))
    assert loud.probabilities[0, label] > plain.probabilities[0, label]


def test_a_failing_engine_gives_one_message_without_the_text(tiny_bundle, monkeypatch):
    classifier = Classifier.load(tiny_bundle, backend="onnx")

    def fail(*arguments):
        raise RuntimeError("secret")

    monkeypatch.setattr(classifier.models[0]._open().backend, "logits", fail)
    with pytest.raises(ArtifactError, match=r"failed \(RuntimeError\) on 1 windows of 4 tokens") as caught:
        classifier.probabilities(["kind river"])
    assert "secret" not in str(caught.value)


def test_many_texts_pass_in_slices(onnx, monkeypatch):
    expected = onnx.read(TEXTS * 3)
    monkeypatch.setattr("moderation.inference.classifier._TOKENS_AT_ONCE", 40)
    found = onnx.read(TEXTS * 3)
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert found.n_windows.tolist() == expected.n_windows.tolist()


def test_results_name_labels_windows_and_version(classifier):
    result = classifier.classify(["stupid idiot"])[0]
    assert tuple(result.probabilities) == classifier.labels
    assert result.n_windows == 1
    assert result.model_version == classifier.model_version
    bundle = read_bundle(classifier.bundle.path)
    assert result.model_version == f"{bundle.name}@{bundle.version[:12]}/{classifier.backend_name}"
    with pytest.raises(FrozenInstanceError):
        result.n_windows = 2


def test_labels_that_reach_their_threshold_are_flagged(tiny_bundle, tmp_path):
    """A threshold that is exactly the probability flags; the next number above it does not."""
    probabilities = Classifier.load(tiny_bundle, backend="onnx").probabilities(["stupid idiot"])[0]
    labels = read_bundle(tiny_bundle).labels
    above = np.nextafter(probabilities, np.float32(1))
    for cut, expected in ((probabilities, labels), (above, ())):
        folder = reseal(
            tiny_bundle, tmp_path / f"{len(expected)}", thresholds=dict(zip(labels, cut.tolist(), strict=True))
        )
        assert Classifier.load(folder, backend="onnx").classify(["stupid idiot"])[0].flagged == expected


def reseal(bundle: Path, folder: Path, **changes) -> Path:
    """A copy whose manifest says something else and is sealed again."""
    shutil.copytree(bundle, folder)
    content = json.loads((folder / "moderation.json").read_text())
    write_manifest(folder, Manifest.from_plain(content | changes))
    return folder


def test_a_wrong_text_is_named_by_its_place(onnx):
    with pytest.raises(DataError, match=r"texts\[1\]"):
        onnx.probabilities(["fine", 3])


def test_a_closed_classifier_can_be_used_again(tiny_bundle):
    classifier = Classifier.load(tiny_bundle, backend="onnx")
    before = classifier.probabilities(TEXTS)
    classifier.close()
    classifier.close()
    assert classifier.probabilities(TEXTS).tobytes() == before.tobytes()


def flip_last_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()  # the fixture may share its bytes
    path.write_bytes(content)


@pytest.mark.hostile("bundle: replaced while in use")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bundle_that_was_replaced_is_not_opened_again(backend, tiny_bundle, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_bundle, folder)
    classifier = Classifier.load(folder, backend=backend, threads=1)
    classifier.close()
    flip_last_bit(backends.main_file(classifier.bundle, backend))
    seal(folder)  # a sound bundle, of another version
    with pytest.raises(ArtifactError, match="not the file that was exported"):
        classifier.probabilities(["kind river"])


@pytest.mark.hostile("bundle: replaced while in use")
@pytest.mark.parametrize("name", [TOKENIZER, "onnx/model.onnx"])
def test_a_file_that_is_replaced_between_the_check_and_its_use_is_refused(name, tiny_bundle, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_bundle, folder)

    def check_then_replace(bundle, names=None):
        check_files(bundle)
        flip_last_bit(folder / name)

    monkeypatch.setattr(model_module, "check_files", check_then_replace)
    with pytest.raises(ArtifactError, match=f"{name}: not the file that was exported"):
        Classifier.load(folder, backend="onnx", threads=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.hostile("bundle: replaced while in use")
def test_a_forked_child_refuses_a_run_whose_checkpoint_was_replaced(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    classifier = Classifier.load(folder, threads=1)
    (folder / "checkpoint_best.pt").unlink()
    shutil.copyfile(tiny_run / "checkpoint_final.pt", folder / "checkpoint_best.pt")
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()

    def use():
        try:
            found.put(classifier.probabilities(["kind river"]))
        except ArtifactError as error:
            found.put(str(error))

    child = context.Process(target=use)
    child.start()
    child.join(60)
    child.kill()
    assert "checkpoint_best.pt: is not the checkpoint that was read before" in found.get()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"backend": "tensorflow"}, ConfigError, "expected auto, openvino, onnx-int8"),
        ({"threads": 0}, ConfigError, "threads is 0"),
        ({"batch_tokens": -1}, ConfigError, "batch_tokens is -1"),
        ({"backend": "onnx", "device": "cuda"}, ConfigError, "onnxruntime-gpu"),
        ({"backend": "torch", "device": "cuda"}, ConfigError, "torch cannot use it"),
        ({"backend": "openvino"}, ArtifactError, "needs the form openvino"),
    ],
)
def test_impossible_arguments_are_refused(tiny_bundle, arguments, error, words):
    with pytest.raises(error, match=words):
        Classifier.load(tiny_bundle, **arguments)


def test_a_missing_engine_names_its_extra(tiny_bundle, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda package: None)
    for backend in ("onnx", "auto"):
        with pytest.raises(MissingExtraError, match=r"'\.\[onnx\]'"):
            Classifier.load(tiny_bundle, backend=backend)


def test_auto_uses_the_fastest_form_whose_engine_is_installed(tiny_bundle, monkeypatch):
    assert Classifier.load(tiny_bundle).backend_name == "onnx-int8"
    real = backends.find_spec
    monkeypatch.setattr(backends, "find_spec", lambda package: None if package == "onnxruntime" else real(package))
    assert Classifier.load(tiny_bundle).backend_name == "torch"


def test_a_file_that_an_engine_cannot_read_is_named(tiny_bundle, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_bundle, folder)
    (folder / "onnx/model.onnx").write_bytes(b"no graph")
    write_manifest(folder, read_bundle(folder))
    with pytest.raises(ArtifactError, match=r"model\.onnx: not a graph that a bundle may hold: it is not an ONNX file"):
        Classifier.load(folder, backend="onnx")


LIGHT = """
import sys
from moderation import Classifier
result = Classifier.load(sys.argv[1], backend=sys.argv[2]).classify(["stupid idiot", "kind river"])
print(len(result), *[name for name in ("torch", "transformers", "pandas", "pyarrow", "sklearn") if name in sys.modules])
"""


@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_the_onnx_path_needs_neither_torch_nor_transformers(tiny_bundle, backend):
    words = [sys.executable, "-c", LIGHT, str(tiny_bundle), backend]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2"], done.stderr


@pytest.mark.parametrize("code", ["Classifier.load({path!r}, backend='onnx', threads=1)", "import_onnxruntime()"])
def test_nothing_is_reported_to_the_makers_of_onnxruntime(code, tiny_bundle):
    """It reads the variable when it is loaded, so that the variable must be there by then."""
    watch = """
import os, sys
from moderation import Classifier
from moderation.inference.backends import import_onnxruntime

def look(event, details):
    if event == "import" and "onnxruntime_pybind11_state" in str(details[0]):
        print("variable", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.addaudithook(look)
"""
    done = subprocess.run(
        [sys.executable, "-c", watch + code.format(path=str(tiny_bundle))],
        env={name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"variable 1"}


def test_a_graph_that_takes_too_long_is_reported(tiny_bundle, monkeypatch):
    class Session:
        """Runs until it is told to stop, as onnxruntime does."""

        def run(self, _names, _feed, options):
            while not options.terminate:
                time.sleep(0.001)
            raise RuntimeError("Exiting due to terminate flag being set to true.")

    class Options:
        terminate = False

    monkeypatch.setattr(backends, "_LONGEST_S", 0.0)
    stuck = object.__new__(backends.OnnxBackend)
    stuck.session = Session()
    with pytest.raises(TimeoutError):
        stuck._run_once(Options())
    monkeypatch.setattr(backends.OnnxBackend, "_run_once", Mock(side_effect=TimeoutError))
    with pytest.raises(ArtifactError, match=r"model\.onnx: its graph took more than .* s for eight tokens"):
        Classifier.load(tiny_bundle, backend="onnx", threads=1)


@pytest.mark.hostile("bundle: weights that are missing")
def test_weights_that_are_missing_or_not_numbers_are_refused(tiny_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    weights = load_file(folder / "model.safetensors")
    numbers = weights["bert.embeddings.word_embeddings.weight"]
    kept = numbers.clone()
    numbers[-1] = float("nan")  # an empty text does not meet it
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    seal(folder)
    with pytest.raises(ArtifactError, match="the model fails on token"):
        Classifier.load(folder, backend="torch")
    numbers.copy_(kept)
    for name in [name for name in weights if name.startswith("bert.encoder.layer.1.")][:2]:
        del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    seal(folder)
    with pytest.raises(ArtifactError, match=r"lacks 2 weights of the model .* bert\.encoder\.layer\.1\."):
        Classifier.load(folder, backend="torch")
    with pytest.raises(ArtifactError, match="lacks 2 weights"):
        read_pipeline(folder)


@pytest.mark.hostile("bundle: sizes that are not the model's")
@pytest.mark.parametrize("backend", ["torch", "onnx", "onnx-int8", "torchscript"])
def test_a_vocabulary_or_a_window_that_is_larger_than_the_model_is_refused(backend, tiny_bundle, tmp_path, capfd):
    """Though the files beside the model all say that it would fit."""
    n_tokens = read_bundle(tiny_bundle).n_tokens
    token = {"id": n_tokens, "content": "more", "single_word": False, "lstrip": False, "rstrip": False}
    token |= {"normalized": False, "special": False}
    for place, (field, value) in enumerate([("vocab_size", n_tokens + 1), ("max_position_embeddings", 80)]):
        folder = tmp_path / str(place)
        shutil.copytree(tiny_bundle, folder)
        config = json.loads((folder / MODEL_CONFIG).read_text()) | {field: value}
        (folder / MODEL_CONFIG).write_text(json.dumps(config))
        if field == "vocab_size":
            tokenizer = json.loads((folder / TOKENIZER).read_text())
            tokenizer["added_tokens"].append(token)
            (folder / TOKENIZER).write_text(json.dumps(tokenizer))
        else:
            manifest = json.loads((folder / MANIFEST).read_text())
            manifest["window"]["length"] = 80
            (folder / MANIFEST).write_text(json.dumps(manifest))
        seal(folder)
        with pytest.raises(ArtifactError) as caught:
            Classifier.load(folder, backend=backend)
        assert str(folder) in str(caught.value)
        if backend != "torch":  # whose weights are compared with the configuration
            assert {"vocab_size": f"fails on token {n_tokens}", "max_position_embeddings": "a window of 80 tokens"}[
                field
            ] in str(caught.value)
    assert not capfd.readouterr().err
