"""An archive for TorchServe: a small bundle of one form, with the handler that runs the classifier on it.

The bundle inside is sealed again for the files that it holds, so that it is checked at load like any other. It
therefore has its own version, which every answer contains.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from moderation.artifacts import link_or_copy, write_atomically
from moderation.bundles import MODEL_CONFIG, TOKENIZER, Bundle, read_bundle, write_manifest
from moderation.errors import ArtifactError
from moderation.export.torchserve import handler
from moderation.forms import FORMS, Form
from moderation.inference.backends import backends

# One worker, because the classifier uses all cores by itself; requests that wait are answered together.
_SERVER_SETTINGS = """\
minWorkers: 1
maxWorkers: 1
batchSize: 16
maxBatchDelay: 5
"""


def write_torchserve(bundle_dir: Path, name: str) -> list[str]:
    """Write `torchserve/<name>.mar` into a bundle.

    Args:
        bundle_dir: A complete bundle.
        name: Of the model in TorchServe: letters, digits, `_`, `-`, `.`.

    Returns:
        The file written, relative to the bundle, with slashes.

    Raises:
        ArtifactError: not a bundle, no form that can be run, or the archiver failed.
        MissingExtraError: `torch-model-archiver` is not installed.
    """
    if find_spec("model_archiver") is None:
        raise FORMS["torchserve"].cannot_be_written()
    bundle = read_bundle(bundle_dir)
    path = bundle_dir / FORMS["torchserve"].main_file.format(name=name)
    with write_atomically(path) as temporary, tempfile.TemporaryDirectory(dir=bundle_dir) as work:
        inner = _write_inner_bundle(Path(work) / "bundle", bundle)
        _archive(Path(work), name, inner).replace(temporary)
    return [path.relative_to(bundle_dir).as_posix()]


def _write_inner_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """A sealed bundle of one form; its files share their bytes with the large one where they can."""
    wanted = sorted(backends().values(), key=_weight)
    form = next((form.name for form in wanted if form.name in bundle.forms), None)
    if form is None:
        names = ", ".join(form.name for form in wanted)
        raise ArtifactError(
            f"{bundle.path}: no form that TorchServe's archive can hold; expected one of {names}, "
            f"found {', '.join(bundle.forms)}. Export again: moderation export RUN --to DIR "
            "--formats onnx-int8,torchserve"
        )
    for file in {TOKENIZER, MODEL_CONFIG, *bundle.forms[form].files}:
        link_or_copy(bundle.path / file, folder / file)
    return write_manifest(folder, replace(bundle, forms={form: bundle.forms[form]}))


def _weight(form: Form) -> tuple[bool, int]:
    """What running a form needs in addition to the handler, which needs the extra `onnx`."""
    return form.run_extra != "onnx", len(form.run_needs)


def _archive(work: Path, name: str, bundle: Bundle) -> Path:
    """Run `torch-model-archiver`, with its own temporary folder: it unpacks there under the model's name."""
    (work / "temporary").mkdir()
    (work / "model-config.yaml").write_text(_SERVER_SETTINGS, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "model_archiver.model_packaging"]
    command += ["--model-name", name, "--version", bundle.version[:12], "--handler", handler.__file__]
    command += ["--extra-files", bundle.path.name, "--config-file", "model-config.yaml", "--export-path", "."]
    environment = os.environ | {key: str((work / "temporary").resolve()) for key in ("TMPDIR", "TEMP", "TMP")}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"{bundle.path.name}: torch-model-archiver made no archive of model {name!r}: {reason}")
    return work / f"{name}.mar"
