"""A model repository for NVIDIA Triton: `<name>` takes text, `<name>_onnx` takes tokens.

`<name>` runs `moderation.Classifier` on the bundle that contains the repository, so that long texts are read to the end
and the bundle's thresholds apply; nothing is copied for it. `<name>_onnx` is only the float32 graph.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from moderation.artifacts import link_or_copy, write_atomically
from moderation.bundles import read_bundle
from moderation.export.triton import model
from moderation.forms import FORMS

_MAX_BATCH = 64

_TEXT_CONFIG = """\
# Text in, probabilities out. `bundle` is relative to the model repository, the folder above this one: by default the
# bundle that contains the repository. Use a full path if the repository is elsewhere.
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [ {{ name: "text" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {n_labels} ] label_filename: "labels.txt" }},
  {{ name: "flagged" data_type: TYPE_BOOL dims: [ {n_labels} ] label_filename: "labels.txt" }},
  {{ name: "n_windows" data_type: TYPE_INT64 dims: [ 1 ] }}
]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters {{ key: "bundle" value {{ string_value: ".." }} }}
parameters {{ key: "backend" value {{ string_value: "auto" }} }}
parameters {{ key: "device" value {{ string_value: "cpu" }} }}
"""

_ONNX_CONFIG = """\
# Tokens of one window in, logits out. The caller does the rest: windows of long texts, calibration and the sigmoid (the
# bundle's README.md has the formula), and thresholds.
name: "{name}_onnx"
platform: "onnxruntime_onnx"
max_batch_size: {max_batch}
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {n_labels} ] label_filename: "labels.txt" }} ]
dynamic_batching {{ }}
"""


def write_triton(bundle_dir: Path, name: str) -> list[str]:
    """Write `triton/` into a bundle: a model that takes text, and the plain ONNX one if the bundle holds that form.

    Args:
        bundle_dir: A complete bundle.
        name: Name of the model that takes text.

    Returns:
        The files written, relative to the bundle, with slashes.

    Raises:
        ArtifactError: not a bundle, or a file cannot be written.
    """
    bundle = read_bundle(bundle_dir)
    root = bundle_dir / "triton"
    written = _write_model(root / name, _TEXT_CONFIG, name, bundle.labels)
    with write_atomically(root / name / "1" / "model.py") as temporary:
        shutil.copyfile(model.__file__, temporary)
    written.append(root / name / "1" / "model.py")
    if "onnx" in bundle.forms:
        written += _write_model(root / f"{name}_onnx", _ONNX_CONFIG, name, bundle.labels)
        link_or_copy(bundle_dir / FORMS["onnx"].main_file, root / f"{name}_onnx" / "1" / "model.onnx")
        written.append(root / f"{name}_onnx" / "1" / "model.onnx")
    return [path.relative_to(bundle_dir).as_posix() for path in written]


def _write_model(folder: Path, config: str, name: str, labels: Sequence[str]) -> list[Path]:
    """Write a model's configuration and its labels, one per line in the order of the columns."""
    contents = {
        folder / "config.pbtxt": config.format(name=name, max_batch=_MAX_BATCH, n_labels=len(labels)),
        folder / "labels.txt": "".join(f"{label}\n" for label in labels),
    }
    for path, text in contents.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return list(contents)
