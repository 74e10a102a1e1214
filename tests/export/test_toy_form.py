"""docs/adding-a-form.md: one entry, one writer, one engine, and the form is written, compared, checked and run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from moderation import Classifier
from moderation.bundles import read_bundle, write_manifest
from moderation.export.drafts import Draft
from moderation.export.forms import WRITERS, Trained, Writer, write_form
from moderation.export.parity import compare
from moderation.forms import FORMS, Form
from moderation.inference.backends import ENGINES, OnnxBackend
from moderation.manifests import FormFacts


def test_a_form_is_one_entry_one_writer_and_one_engine(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Form(
        name="toy",  # type: ignore[arg-type]  # a real one stands in the Literals too
        title="The toy form",
        kind="float",
        main_file="toy/model.bin",
        beside=("toy/letters.txt",),
        backend="toy",  # type: ignore[arg-type]
        run_needs=("onnxruntime",),
        from_graph=True,
        limits={"max_difference": 1e-4},
        limit_elsewhere=1e-4,
    )

    def write(path: Path, trained: Trained, kept: object) -> None:
        path.parent.mkdir()
        path.write_bytes(trained.graph.read_bytes()[::-1])
        path.with_name("letters.txt").write_text("read me backwards")

    monkeypatch.setitem(FORMS, "toy", toy)
    monkeypatch.setitem(WRITERS, "toy", Writer(write))
    monkeypatch.setitem(
        ENGINES,
        "toy",
        lambda bundle, form, threads, device: OnnxBackend(
            (bundle.path / form.main_file).read_bytes()[::-1], threads, device
        ),
    )
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    draft = Draft(folder, read_bundle(folder))
    trained = Trained(None, folder / "onnx/model.onnx", ())  # type: ignore[arg-type]
    draft.add("toy", FormFacts(tuple(write_form(folder, "toy", trained))))
    bundle = draft.seal()
    texts = ["kind river", "stupid idiot"]
    toy_answers, onnx_answers = [
        Classifier.load(folder, backend=name, threads=1).probabilities(texts) for name in ("toy", "onnx")
    ]
    thresholds = np.array(bundle.thresholds, dtype=np.float32)
    assert compare("toy", toy_answers, onnx_answers, np.zeros((0, 6)), thresholds, bundle.labels).passed
    draft.drop("toy")
    assert not (folder / "toy").exists()
    assert write_manifest(folder, draft.manifest).forms.keys() == read_bundle(tiny_bundle).forms.keys()
