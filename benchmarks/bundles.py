"""Bundles with random weights, and real comments, for the benchmarks of inference and serving."""

import sys
from pathlib import Path

import numpy as np

from moderation.labels import JIGSAW_LABELS
from moderation.tables.options import TEXT_COLUMN

LABELS = JIGSAW_LABELS
WINDOW = 256
LONGEST = 512  # tokens of a text that the peers read
SHAPES = {"distilbert": (6, 768, 3072), "minilm": (6, 384, 1536)}  # layers, width, width of the feed-forward part


def read_texts(data_path: Path, n_texts: int) -> list[str]:
    """Read comments at their real lengths, the same ones every time.

    Args:
        data_path: Table with a column `comment_text`.
        n_texts: How many; all of them if the table has fewer.

    Raises:
        DataError: the table cannot be read, has no such column, or has no text in it.
    """
    from moderation.errors import DataError
    from moderation.tables.columns import show_names
    from moderation.tables.reading import read_table

    table = read_table(data_path)
    if TEXT_COLUMN not in table.columns:
        raise DataError(f"{data_path}: no column {TEXT_COLUMN!r}; columns there: {show_names(table.columns)}.")
    texts = table[TEXT_COLUMN].dropna().astype("str")
    if texts.empty:
        raise DataError(f"{data_path}: no text in column {TEXT_COLUMN!r}.")
    if len(texts) < n_texts:
        print(f"NOTE: {data_path} has {len(texts)} texts; measured with all of them.", file=sys.stderr)
    return list(texts.sample(min(n_texts, len(texts)), random_state=1))


def find_backbone(name: str, scratch: Path) -> Path:
    """Find a folder with the configuration and the tokenizer of a backbone; the weights are random, so none are needed.

    If neither the cache nor the package index nor the hub has it, `minilm` and `distilbert-multilingual` get a stand-in
    of the same shape, with the tokenizer of the included model. A note reports that, because the numbers of tokens
    differ then.

    Args:
        name: Short name, hub id or folder.
        scratch: Folder for a stand-in.

    Raises:
        ArtifactError: another backbone is not available.
    """
    from transformers import DistilBertConfig

    from moderation.backbones.registry import resolve_backbone
    from moderation.bundles import SHIPPED
    from moderation.errors import ArtifactError

    try:
        return resolve_backbone(name, need_weights=False).path
    except ArtifactError:
        if name not in ("minilm", "distilbert-multilingual"):
            raise
    print(
        f"NOTE: {name} is not available: used its shape with another tokenizer. Use --NAME FOLDER",
        file=sys.stderr,
    )
    if name == "minilm":
        return SHIPPED
    folder = scratch / name
    DistilBertConfig(vocab_size=119_547).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((SHIPPED / file).read_bytes())
    return folder


def build_bundle(folder: Path, backbone_name: str, texts: list[str]) -> None:
    """Write an architecture with random weights, in every form that is measured.

    Args:
        folder: Folder of the bundle, which gets the folder's name; made if it is missing.
        backbone_name: Short name or folder.
        texts: Texts to calibrate int8 with.
    """
    import tempfile

    import torch

    from moderation.backbones.registry import load_tokenizer
    from moderation.bundles import write_manifest
    from moderation.calibrators import Calibrator
    from moderation.export.forms import Trained, write_form
    from moderation.export.huggingface import write_huggingface
    from moderation.export.onnx_graph import write_onnx
    from moderation.inference.windows import Windows
    from moderation.manifests import FormFacts, Manifest
    from moderation.training.model import build_model

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        backbone = find_backbone(backbone_name, Path(scratch))
        torch.manual_seed(0)
        model = build_model(backbone, LABELS, random_weights=True)
        model.eval()  # type: ignore[no-untyped-call]
        forms = {"hf": write_huggingface(folder, model, load_tokenizer(backbone), LABELS, max_length=WINDOW)}
    write_onnx(folder / "onnx/model.onnx", model)
    windows = Windows(folder / "tokenizer.json", length=WINDOW, overlap=WINDOW // 4)
    some = [np.array(windows.cut(text)[0].ids) for text in texts]
    trained = Trained(model, folder / "onnx/model.onnx", some)
    for form in ("onnx", "onnx-int8", "openvino", "torchscript"):
        forms[form] = write_form(folder, form, trained)
    manifest = Manifest(
        name=folder.name,
        labels=LABELS,
        thresholds=(0.5,) * len(LABELS),
        calibrators=(Calibrator(),) * len(LABELS),
        window_length=WINDOW,
        window_overlap=WINDOW // 4,
        languages=(),
        records={"metrics": {}, "provenance": {}, "parity": []},
        forms={form: FormFacts(tuple(files)) for form, files in forms.items()},
    )
    write_manifest(folder, manifest)
