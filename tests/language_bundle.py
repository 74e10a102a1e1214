"""A bundle with thresholds by language, made of the tiny one."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moderation.artifacts import sha256
from moderation.bundles import read_bundle
from moderation.manifests import MANIFEST, manifest_version

ENGLISH = "You are a kind person and I like what you say about the river."
TURKISH = "Bu yorum için çok teşekkür ederim, gerçekten güzel olmuş, çok güzel kardeşim benim."


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest, with a version that fits."""
    content = json.loads((folder / MANIFEST).read_text()) | changes
    content["version"] = manifest_version(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def make_many(bundle: Path, parent: Path) -> Path:
    """The tiny model with other weights as one of German and Turkish, which flags everything in Turkish."""
    folder = parent / "many"
    shutil.copytree(bundle, folder)
    labels = read_bundle(folder).labels
    turkish = {"thresholds": dict.fromkeys(labels, 0.0001), "calibration": {"method": "identity"}}
    own = {"by_language": {"tr": turkish}, "thresholds": dict.fromkeys(labels, 0.9999), "format_version": 2}
    files = json.loads((folder / MANIFEST).read_text())["files"] | _shift_bias(folder, "onnx/model.onnx")
    rewrite(folder, name="many", languages=["de", "tr"], files=files, **own)
    return folder


def _shift_bias(folder: Path, name: str) -> dict[str, Any]:
    """Other weights, so that a text read by the wrong model has another answer; what the manifest says of the file."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(folder / name)
    (bias,) = (one for one in graph.graph.initializer if one.name.endswith("classifier.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.3), bias.name))
    onnx.save(graph, folder / name)
    return {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}}
