"""The archive for TorchServe: its files, its handler, and the real server where there is one."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moderation import Classifier
from moderation.bundles import check_files, read_bundle, write_manifest
from moderation.errors import ArtifactError, MissingExtraError
from moderation.export.torchserve import archive
from moderation.export.torchserve.archive import write_torchserve
from moderation.manifests import FormFacts

NAME = "toxicity"
TEXTS = ["you are kind", "", "\U0001f600 \u65e5\u672c\u8a9e", "nul\x00inside", "river bread " * 300 + "idiot", "fine"]


@pytest.fixture(scope="module")
def bundle_dir(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the archive, in a folder whose name holds what the archiver would take for a pattern."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("torchserve") / "a bundle, [1]"))
    assert write_torchserve(folder, NAME) == [f"torchserve/{NAME}.mar"]
    return folder


@pytest.fixture(scope="module")
def unpacked(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as TorchServe unpacks it."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle_dir / "torchserve" / f"{NAME}.mar") as archive:
        archive.extractall(folder)
    return folder


def test_the_archive_names_its_handler(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    model = manifest["model"]
    assert (model["modelName"], manifest["runtime"]) == (NAME, "python")
    assert (unpacked / model["handler"]).is_file()
    assert (unpacked / model["configFile"]).is_file()
    assert read_bundle(unpacked).version.startswith(model["modelVersion"])


def test_the_archive_is_a_small_bundle_of_one_form(unpacked: Path, bundle_dir: Path) -> None:
    small, large = read_bundle(unpacked), read_bundle(bundle_dir)
    check_files(small)
    assert list(small.forms) == ["onnx-int8"]
    assert {"tokenizer.json", "config.json", "onnx/model_int8.onnx"} <= small.files.keys()
    assert not {"model.safetensors", "onnx/model.onnx"} & small.files.keys()
    assert (small.labels, small.thresholds, small.name) == (large.labels, large.thresholds, large.name)
    assert (small.window_length, small.window_overlap) == (large.window_length, large.window_overlap)


def test_nothing_pickled_is_in_the_archive(unpacked: Path) -> None:
    kinds = {path.suffix for path in unpacked.rglob("*") if path.is_file()}
    assert kinds == {".json", ".onnx", ".py", ".yaml"}


def test_nothing_else_is_left_in_the_bundle_nor_in_the_temporary_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archiver empties `<temporary folder>/<name>` before it works; ours must not be the user's."""
    mine = tmp_path / "temporary" / NAME / "precious.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me", encoding="utf-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    before = {path for path in folder.rglob("*") if path.is_file()}
    [written] = write_torchserve(folder, NAME)
    assert {path for path in folder.rglob("*") if path.is_file()} - before == {folder / written}
    assert {path.name for path in folder.iterdir()} - {path.name for path in tiny_bundle.iterdir()} <= {
        "torchserve",
        "pytorch_model.bin",
    }
    assert [path.name for path in (tmp_path / "temporary").rglob("*")] == [NAME, "precious.txt"]
    read_bundle(folder)


def test_a_bundle_with_no_form_to_run_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    bundle = read_bundle(folder)
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    write_manifest(folder, replace(bundle, forms={"torch": FormFacts(("pytorch_model.bin",))}))
    with pytest.raises(ArtifactError, match=r"expected one of onnx-int8.*found torch\. Export again"):
        write_torchserve(folder, NAME)
    assert {path.name for path in folder.iterdir()} - {path.name for path in tiny_bundle.iterdir()} <= {
        "torchserve",
        "pytorch_model.bin",
    }


def test_a_refusal_by_the_archiver_is_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with pytest.raises(ArtifactError, match="no archive of model 'a name'"):
        write_torchserve(folder, "a name")
    assert not list(folder.rglob("*.mar"))


def test_a_missing_archiver_is_reported_with_its_cure(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'\.\[torchserve\]'"):
        write_torchserve(tiny_bundle, NAME)


class Context:
    """What TorchServe 0.12 hands to a handler, as far as it looks."""

    def __init__(self, model_dir: Path, kinds: list[str]) -> None:
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": None}
        self.kinds = kinds
        self.status: dict[int, int] = {}
        self.content_types: dict[int, str] = {}

    def get_request_header(self, place: int, key: str) -> dict[str, str] | None:
        return {"content-type": self.kinds[place]} if self.kinds[place] else None

    def set_response_content_type(self, place: int, value: str) -> None:
        self.content_types[place] = value

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        self.status[idx] = code


@pytest.fixture
def handler(unpacked: Path) -> Any:
    """The handler as TorchServe finds it: the one class in the file that the archive names."""
    spec = importlib.util.spec_from_file_location("handler_of_torchserve", unpacked / "handler.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [kind] = [
        value
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__ and isinstance(value, type)
    ]
    handler = kind()
    handler.initialize(Context(unpacked, []))
    return handler


def expected_answers(folder: Path, backend: str = "auto") -> list[dict[str, Any]]:
    with Classifier.load(folder, backend=backend) as classifier:
        return [
            {
                "probabilities": result.probabilities,
                "flagged": list(result.flagged),
                "n_windows": result.n_windows,
                "model_version": result.model_version,
            }
            for result in classifier.classify(TEXTS)
        ]


def test_the_handler_answers_as_the_classifier_in_every_way_of_asking(handler: Any, unpacked: Path) -> None:
    ways: list[tuple[str, Any]] = [
        ("body", lambda text: {"text": text}),
        ("body", lambda text: text),
        ("body", lambda text: text.encode()),
        ("data", lambda text: bytearray(text.encode())),
        ("text", lambda text: text),
    ]
    expected = expected_answers(unpacked)
    assert max(answer["n_windows"] for answer in expected) > 1
    for key, wrap in ways:
        context = Context(unpacked, [""] * len(TEXTS))
        answers = handler.handle([{key: wrap(text)} for text in TEXTS], context)
        assert [json.loads(answer) for answer in answers] == expected
        assert context.status == {}
        assert set(context.content_types.values()) == {"application/json"}


def test_the_numbers_are_the_large_bundles_own(handler: Any, unpacked: Path, bundle_dir: Path) -> None:
    answers = handler.handle([{"body": text} for text in TEXTS], Context(unpacked, [""] * len(TEXTS)))
    found = np.array([list(json.loads(answer)["probabilities"].values()) for answer in answers], dtype=np.float32)
    with Classifier.load(bundle_dir, backend="onnx-int8") as classifier:
        assert found.tobytes() == classifier.probabilities(TEXTS).tobytes()


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"body": {"texts": "secret"}}, ""),
        ({"body": {"text": 1}}, ""),
        ({"body": ["secret", "secret"]}, ""),
        ({"body": b"\xffsecret"}, ""),
        ({"body": b'{"text": secret'}, "application/json; charset=utf-8"),
        ({"body": b'{"text": "secret \\ud83d"}'}, "application/json"),
        ({"body": {"text": "secret \ud83d"}}, ""),
        ({"body": b'{"text": "secret", "more": NaN}'}, "application/json"),
        ({"other": "secret"}, ""),
        ({}, ""),
    ],
)
def test_a_request_without_a_text_fails_alone_and_is_not_repeated(
    handler: Any, unpacked: Path, request_: dict[str, Any], kind: str
) -> None:
    context = Context(unpacked, ["", kind, ""])
    first, bad, last = handler.handle([{"body": "fine"}, request_, {"body": "fine"}], context)
    assert context.status == {1: 400}
    assert b"secret" not in bad
    assert "expected" in json.loads(bad)["error"]
    assert first == last


def test_json_that_the_server_left_unread_is_read(handler: Any, unpacked: Path) -> None:
    context = Context(unpacked, ["application/json", ""])
    as_bytes, as_text = handler.handle([{"body": b'{"text": "fine"}'}, {"body": "fine"}], context)
    assert as_bytes == as_text


@pytest.mark.slow
def test_the_real_server_answers_as_the_classifier(bundle_dir: Path, unpacked: Path, tmp_path: Path) -> None:
    """Set up as in docs/serving-elsewhere.md; MODERATION_TORCHSERVE_PYTHON names the Python it was installed into."""
    python = os.environ.get("MODERATION_TORCHSERVE_PYTHON")
    if not python:
        pytest.skip("no TorchServe; name the Python that holds it in MODERATION_TORCHSERVE_PYTHON")
    ports = [free_port() for _ in range(5)]
    keys = ("inference_address", "management_address", "metrics_address", "grpc_inference_port", "grpc_management_port")
    values = [*(f"http://127.0.0.1:{port}" for port in ports[:3]), *(str(port) for port in ports[3:])]
    settings = tmp_path / "config.properties"
    settings.write_text("".join(f"{key}={value}\n" for key, value in zip(keys, values, strict=True)), encoding="utf-8")
    command = [python, "-m", "ts.model_server", "--foreground", "--ncs", "--ts-config", str(settings)]
    command += ["--model-store", str(bundle_dir / "torchserve"), "--models", f"{NAME}.mar"]
    environment = os.environ | {"TEMP": str(tmp_path), "TMPDIR": str(tmp_path)}
    log_path = tmp_path / "log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log) as server,
    ):
        try:
            answers = ask_server(server, f"http://127.0.0.1:{ports[0]}", tmp_path, log_path)
        finally:
            subprocess.run([python, "-m", "ts.model_server", "--stop", "--foreground"], env=environment, cwd=tmp_path)
    assert answers == expected_answers(unpacked, "onnx-int8")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask_server(server: "subprocess.Popen[bytes]", address: str, folder: Path, log_path: Path) -> list[dict[str, Any]]:
    """Answers to the texts, sent with the token that TorchServe wrote; without one it must refuse."""

    def post(text: str, **headers: str) -> dict[str, Any]:
        body = json.dumps({"text": text}).encode()
        headers = {"Content-Type": "application/json"} | headers
        ask = urllib.request.Request(f"{address}/predictions/{NAME}", body, headers)
        with urllib.request.urlopen(ask, timeout=60) as answer:
            content: dict[str, Any] = json.load(answer)
            return content

    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            token = json.loads((folder / "key_file.json").read_text(encoding="utf-8"))["inference"]["key"]
            post("fine", Authorization=f"Bearer {token}")
        except (OSError, ValueError):  # not there yet, half written, no worker yet
            time.sleep(0.3)
            continue
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            post("fine")
        refused.value.close()
        return [post(text, Authorization=f"Bearer {token}") for text in TEXTS]
    pytest.fail("the server did not answer:\n" + log_path.read_text(encoding="utf-8", errors="replace")[-3000:])
