"""What the benchmarks of inference and serving measure with: bundles with random weights, and real comments."""

from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
WINDOW = 256
LONGEST = 512  # tokens that the peers read of a text
SHAPES = {"distilbert": (6, 768, 3072), "minilm": (6, 384, 1536)}  # layers, width, width of the feed-forward part


def read_texts(data_path: Path, n_texts: int) -> list[str]:
    """Comments at their real lengths, the same ones every time.

    Args:
        data_path: Table with a column `comment_text`.
        n_texts: How many.
    """
    from moderation.data.reading import read_table

    return list(read_table(data_path)["comment_text"].sample(n_texts, random_state=1))


def build_bundle(folder: Path, backbone_name: str, texts: list[str]) -> None:
    """An architecture with random weights, in every form that is measured.

    Args:
        folder: Of the bundle, whose name it takes; made if it is missing.
        backbone_name: Short name or folder.
        texts: To calibrate int8 with.
    """
    import torch

    from moderation.backbones import load_tokenizer, resolve_backbone
    from moderation.bundles import write_manifest
    from moderation.export.forms import Trained, write_form
    from moderation.export.huggingface import write_huggingface
    from moderation.export.onnx_graph import write_onnx
    from moderation.inference.windows import Windows
    from moderation.training.model import build_model

    folder.mkdir(parents=True, exist_ok=True)
    backbone = resolve_backbone(backbone_name, need_weights=False).path
    torch.manual_seed(0)
    model = build_model(backbone, LABELS, random_weights=True)
    model.eval()  # type: ignore[no-untyped-call]
    forms = {"hf": {"files": write_huggingface(folder, model, load_tokenizer(backbone), LABELS, max_length=WINDOW)}}
    write_onnx(folder / "onnx/model.onnx", model)
    windows = Windows(folder / "tokenizer.json", length=WINDOW, overlap=WINDOW // 4)
    some = [np.array(windows.cut(text)[0].ids) for text in texts]
    trained = Trained(model, folder / "onnx/model.onnx", some)
    for form in ("onnx", "onnx-int8", "openvino", "torchscript"):
        forms[form] = {"files": write_form(folder, form, trained)}
    content: dict[str, Any] = {"name": folder.name, "labels": list(LABELS), "thresholds": dict.fromkeys(LABELS, 0.5)}
    content |= {"calibration": {"method": "identity"}, "languages": [], "metrics": {}, "provenance": {}, "parity": []}
    window = {"length": WINDOW, "overlap": WINDOW // 4, "pooling": "max"}
    write_manifest(folder, content | {"window": window, "forms": forms})
