"""The model repository for Triton: configuration, the model that takes text, and the real server where there is one."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from moderation import Classifier
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError
from moderation.export.triton.repository import write_triton

NAME = "toxicity"
TEXTS = [
    "you are kind",
    "",
    "\U0001f600 \u65e5\u672c\u8a9e",
    "nul\x00inside",
    "river bread " * 300 + "stupid idiot",
    "fine",
]


@pytest.fixture
def bundle_dir(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be written to, in a folder whose name is no plain word."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "a bundle, [1]"))


def read_config(path: Path) -> Any:
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def test_the_written_files_are_returned_and_there_are_no_others(bundle_dir: Path) -> None:
    written = write_triton(bundle_dir, NAME)
    there = {path.relative_to(bundle_dir).as_posix() for path in (bundle_dir / "triton").rglob("*") if path.is_file()}
    assert set(written) == there
    assert {f"triton/{NAME}/config.pbtxt", f"triton/{NAME}/1/model.py", f"triton/{NAME}_onnx/1/model.onnx"} <= there


def test_the_configuration_of_the_text_model_is_what_triton_reads(bundle_dir: Path) -> None:
    write_triton(bundle_dir, NAME)
    config = read_config(bundle_dir / "triton" / NAME / "config.pbtxt")
    n_labels = len(read_bundle(bundle_dir).labels)
    assert (config.name, config.backend) == (NAME, "python")
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    [text] = config.input
    assert (text.name, text.data_type, list(text.dims)) == ("text", model_config_pb2.TYPE_STRING, [1])
    assert {out.name: (out.data_type, list(out.dims)) for out in config.output} == {
        "probabilities": (model_config_pb2.TYPE_FP32, [n_labels]),
        "flagged": (model_config_pb2.TYPE_BOOL, [n_labels]),
        "n_windows": (model_config_pb2.TYPE_INT64, [1]),
    }
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "bundle": "..",
        "backend": "auto",
        "device": "cpu",
    }


def test_the_configuration_of_the_plain_model_fits_its_graph(bundle_dir: Path) -> None:
    import onnxruntime

    write_triton(bundle_dir, NAME)
    folder = bundle_dir / "triton" / f"{NAME}_onnx"
    config = read_config(folder / "config.pbtxt")
    graph = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert (config.name, config.platform) == (f"{NAME}_onnx", "onnxruntime_onnx")
    assert config.max_batch_size > 1
    # Triton does not want the batch named, which comes first; a size that may vary is -1.
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
        (node.name, {"tensor(int64)": model_config_pb2.TYPE_INT64}[node.type], [-1]) for node in graph.get_inputs()
    ]
    assert all(len(node.shape) == 2 and isinstance(node.shape[0], str) for node in graph.get_inputs())
    [logits], [node] = config.output, graph.get_outputs()
    assert (logits.name, node.type, logits.data_type) == (node.name, "tensor(float)", model_config_pb2.TYPE_FP32)
    answer = graph.run(None, {node.name: np.ones((2, 5), dtype=np.int64) for node in graph.get_inputs()})[0]
    assert answer.shape == (2, *logits.dims) == (2, len(read_bundle(bundle_dir).labels))


@pytest.mark.parametrize(("model", "output"), [(NAME, "probabilities"), (NAME, "flagged"), (f"{NAME}_onnx", "logits")])
def test_the_columns_are_named_in_label_order(bundle_dir: Path, model: str, output: str) -> None:
    write_triton(bundle_dir, NAME)
    folder = bundle_dir / "triton" / model
    [column] = [out for out in read_config(folder / "config.pbtxt").output if out.name == output]
    assert (folder / column.label_filename).read_text(encoding="utf-8").splitlines() == list(
        read_bundle(bundle_dir).labels
    )


def test_the_plain_model_is_the_bundles_own_graph(bundle_dir: Path) -> None:
    write_triton(bundle_dir, NAME)
    copied = bundle_dir / "triton" / f"{NAME}_onnx" / "1" / "model.onnx"
    assert copied.read_bytes() == (bundle_dir / "onnx" / "model.onnx").read_bytes()


def test_the_graph_is_copied_if_links_are_not_available(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    write_triton(bundle_dir, NAME)
    copied = bundle_dir / "triton" / f"{NAME}_onnx" / "1" / "model.onnx"
    assert copied.read_bytes() == (bundle_dir / "onnx" / "model.onnx").read_bytes()
    assert copied.stat().st_nlink == 1


def test_writing_again_gives_the_same_files(bundle_dir: Path) -> None:
    first = {name: (bundle_dir / name).read_bytes() for name in write_triton(bundle_dir, NAME)}
    assert {name: (bundle_dir / name).read_bytes() for name in write_triton(bundle_dir, NAME)} == first


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a bundle"):
        write_triton(tmp_path, NAME)
    assert not list(tmp_path.iterdir())


@dataclass
class Request:
    """What Triton hands to `execute`, as far as the model looks."""

    values: list[bytes]

    def as_numpy(self) -> Any:
        return np.array([[value] for value in self.values], dtype=np.object_)


@pytest.fixture
def model(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`1/model.py` as Triton would load it: from its file, with Triton's module beside it."""
    triton = ModuleType("triton_python_backend_utils")

    class TritonError(Exception):
        INVALID_ARG = 3

    triton.TritonError = TritonError  # type: ignore[attr-defined]
    triton.Tensor = lambda name, array: (name, array)  # type: ignore[attr-defined]
    triton.get_input_tensor_by_name = lambda request, name: request  # type: ignore[attr-defined]
    triton.InferenceResponse = lambda output_tensors, error=None: error or dict(output_tensors)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    write_triton(bundle_dir, NAME)
    folder = bundle_dir / "triton" / NAME
    spec = importlib.util.spec_from_file_location("model_of_triton", folder / "1" / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Triton hands its own reading of config.pbtxt to the model, as JSON with the names of the protobuf.
    config = json_format.MessageToDict(read_config(folder / "config.pbtxt"), preserving_proto_field_name=True)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(folder), "model_config": json.dumps(config)})
    yield model
    model.finalize()


def test_the_model_answers_as_the_classifier_to_the_byte(model: Any, bundle_dir: Path) -> None:
    sizes = (1, 2, 3)
    parts = [[text.encode() for text in TEXTS[sum(sizes[:i]) :][:size]] for i, size in enumerate(sizes)]
    responses = model.execute([Request(part) for part in parts])
    found = {name: np.concatenate([response[name] for response in responses]) for name in responses[0]}
    with Classifier.load(bundle_dir) as classifier:
        reading = classifier.read(TEXTS)
        results = classifier.classify(TEXTS)
    assert found["probabilities"].dtype == np.float32
    assert found["probabilities"].tobytes() == reading.probabilities.tobytes()
    assert found["n_windows"].tolist() == reading.n_windows[:, None].tolist()
    assert reading.n_windows.max() > 1
    labels = read_bundle(bundle_dir).labels
    assert found["flagged"].tolist() == [[label in result.flagged for label in labels] for result in results]


def test_a_request_that_is_not_utf8_fails_alone_and_without_its_text(model: Any) -> None:
    good, bad, also_good = model.execute([Request([b"fine"]), Request([b"kind", b"\xffsecret"]), Request([b"fine"])])
    assert "UTF-8" in str(bad)
    assert "secret" not in str(bad)
    assert good["probabilities"].tobytes() == also_good["probabilities"].tobytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_real_server_answers_as_the_classifier(bundle_dir: Path, tmp_path: Path) -> None:
    """Set up as in docs/serving-elsewhere.md; MODERATION_TRITON_PYTHON names the Python it was installed into."""
    python = os.environ.get("MODERATION_TRITON_PYTHON")
    if not python:
        pytest.skip("no Triton server; name the Python that holds nvidia-pytriton in MODERATION_TRITON_PYTHON")
    grpc = pytest.importorskip("tritonclient.grpc")
    bundle_dir = bundle_dir.rename(tmp_path / "bundle")  # Triton's Python backend splits its words at spaces
    write_triton(bundle_dir, NAME)
    home = next((Path(python).parent.parent / "lib").glob("python3*/site-packages/pytriton/tritonserver"))
    port = free_port()
    command = [str(home / "bin" / "tritonserver"), f"--model-repository={bundle_dir / 'triton'}"]
    command += [f"--backend-directory={home / 'backends'}", "--model-control-mode=explicit", f"--load-model={NAME}"]
    command += ["--allow-http=false", "--allow-metrics=false", f"--grpc-port={port}", "--exit-timeout-secs=2"]
    environment = os.environ | {"PATH": f"{Path(python).parent}:{os.environ['PATH']}"}
    log_path = tmp_path / "log"
    with log_path.open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
            ask = grpc.InferInput("text", [len(TEXTS), 1], "BYTES")
            ask.set_data_from_numpy(np.array([[text.encode()] for text in TEXTS], dtype=np.object_))
            wait_for(server, client, log_path)
            probabilities = client.infer(NAME, [ask]).as_numpy("probabilities")
            client.close()
        finally:
            server.terminate()
    with Classifier.load(bundle_dir, backend="onnx-int8") as classifier:
        assert probabilities.tobytes() == classifier.probabilities(TEXTS).tobytes()


def wait_for(server: "subprocess.Popen[bytes]", client: Any, log_path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            if client.is_model_ready(NAME):
                return
        except Exception:  # not listening yet
            time.sleep(0.2)
    pytest.fail("the server did not start:\n" + log_path.read_text(encoding="utf-8", errors="replace")[-3000:])
