"""No file of a model runs code: planted in every file that transformers reads, with a yes on standard input.

What is planted is real: `test_the_trap_works_on_plain_transformers` lets it go off.
"""

import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moderation import cli, pretrained
from moderation.artifacts import sha256
from moderation.backbones.registry import load_tokenizer, resolve_backbone
from moderation.bundles import read_bundle
from moderation.errors import ArtifactError
from moderation.inference.classifier import Classifier
from moderation.manifests import manifest_version
from moderation.training.checkpoints import load_checkpoint
from moderation.training.model import build_model
from tests.attack_table import Attack

ASKED = pytest.mark.hostile("auto_map with y on standard input")
LABELS = ("toxic", "insult")
UNKNOWN = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evilmod.Evil"]}}
# Architectures that bring their own classifier of texts, that bring none, that load further models, of other senses.
TYPES = ("bert", "clip", "vit", "whisper", "roberta", "rag", "wav2vec2", "encoder-decoder", "gpt2", "timm_wrapper")
CLASSES = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoTokenizer", "AutoProcessor")


class Trap:
    """Code in a folder of its own, and how files may name it."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "code was run"
        self.repo = folder / "evil"
        self.repo.mkdir(parents=True)
        self.write_code(self.repo)

    def write_code(self, folder: Path) -> None:
        """Put the module into a folder, under each name that transformers looks for."""
        code = f"open({str(self.mark)!r}, 'w').close()\nclass Evil:\n    pass\n"
        (folder / "evilmod.py").write_text(code)
        (folder / "custom_generate").mkdir(exist_ok=True)
        (folder / "custom_generate" / "generate.py").write_text(code)

    def auto_maps(self) -> Iterator[Any]:
        """What stands under `auto_map`, in each notation."""
        for name in ("evilmod.Evil", f"{self.repo}--evilmod.Evil"):
            yield dict.fromkeys(CLASSES, name) | {"AutoTokenizer": [name, name]}
            yield {"AutoTokenizer": [None, name]}
            yield [name, name]

    def went_off(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """The trap, where code that is run would be copied to, and somebody who says yes to everything."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 15)  # as in a process that has just begun
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 50))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Trap(tmp_path / "trap")


@pytest.fixture
def backbone(tiny_backbone: Path, trap: Trap, tmp_path: Path) -> Path:
    """A copy of the tiny backbone with code beside its files."""
    folder = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    trap.write_code(folder)
    return folder


def change(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def seal(bundle: Path, *names: str) -> None:
    """Let a bundle's manifest name files as they are now, whatever they say."""
    path = bundle / "moderation.json"
    manifest = json.loads(path.read_text())
    for name in names:
        manifest["files"][name] = {"sha256": sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    path.write_text(json.dumps(manifest | {"version": manifest_version(manifest)}))


def nested(content: Any, depth: int, rng: random.Random) -> dict[str, Any]:
    """The content somewhere inside a larger one."""
    for _ in range(depth):
        content = rng.choice([{"text_config": content}, {"layers": [1, content]}, {"a": {"b": [[content]]}}])
    return {"model_type": "bert"} | content


def never_answered() -> bool:
    """Nobody has read the yes."""
    return sys.stdin.readline() == "y\n" and sys.stdin.tell() == 2  # that of this function itself


def test_the_trap_works_on_plain_transformers(trap: Trap, backbone: Path) -> None:
    from transformers import AutoTokenizer

    (backbone / "config.json").unlink()
    change(backbone / "tokenizer_config.json", **UNKNOWN)
    with pytest.raises(AttributeError):
        AutoTokenizer.from_pretrained(backbone)  # asks, and is told to go on
    assert trap.went_off()
    assert sys.stdin.tell() > 0


@ASKED
def test_every_key_that_names_code_is_refused_at_any_depth(trap: Trap, attack: Attack) -> None:
    rng = random.Random(5)
    planted = [{"auto_map": value} for value in (*trap.auto_maps(), None, "", {})]
    planted += [{"custom_pipelines": {"text-classification": {"impl": "evilmod.Evil"}}}]
    planted += [{key: {"quant_method": "evil"}} for key in ("quantization_config", "compression_config")]
    planted += [{"configuration_files": ["config.0.0.1.json"]}, {"transformers_weights": "adapter_model.bin"}]
    for key in pretrained._IMPLEMENTATIONS:
        planted += [
            {key: name} for name in ("evil/kernel", "paged|evil/kernel", "flash_attention_2", 3, ["evil/kernel"])
        ]
        planted += [{key: {"": "sdpa", "text_config": "evil/kernel"}}]
    cases = [(rng.choice(planted), rng.randrange(4)) for _ in range(attack.cases(0, 2_000))]
    for content, depth in [*itertools.product(planted, (0, 1, 3)), *cases]:
        with pytest.raises(ArtifactError) as caught:
            pretrained.check_content(nested(content, depth, rng), "config.json")
        assert str(caught.value).startswith("config.json: ")
        assert f"{next(iter(content))})" in str(caught.value), content
        attack.tried()


def test_plain_configurations_are_not_refused() -> None:
    content: dict[str, Any] = {"model_type": "bert", "_name_or_path": "/elsewhere", "quantization_config": None}
    content |= {"attn_implementation": "sdpa", "_attn_implementation": {"": "eager", "text_config": None}}
    content |= {"_attn_implementation_autoset": True, "label2id": {"toxic": 0}, "text_config": {"a": [1, 2]}}
    content["itself"] = content  # a pickle may hold such things
    pretrained.check_content(content, "config.json")


def test_a_strangers_key_does_not_reach_the_terminal() -> None:
    with pytest.raises(ArtifactError) as caught:
        pretrained.check_content({"\x1b[2J": {"auto_map": {}}}, "config.json")
    assert r"(\u001b[2J.auto_map)" in str(caught.value)


@ASKED
def test_a_checkpoint_runs_no_code(trap: Trap, tmp_path: Path, attack: Attack) -> None:
    import torch
    from transformers import CONFIG_MAPPING

    path = tmp_path / "checkpoint_evil.pt"
    content = {"format": "content-moderation checkpoint", "version": 1, "labels": list(LABELS), "about": {}}
    types = TYPES if attack.cases(0, 1) == 0 else [*CONFIG_MAPPING]
    for model_type, auto_map in itertools.product(types, trap.auto_maps()):
        config = {"model_type": model_type, "auto_map": auto_map, "_name_or_path": str(trap.repo)}
        torch.save(content | {"config": config, "weights": {}}, path)
        with pytest.raises(ArtifactError, match=r"checkpoint_evil\.pt \(config\): names code to run \(auto_map\)"):
            load_checkpoint(path)
        attack.tried()
    for model_type in types[:10]:
        config = {"model_type": model_type, "attn_implementation": "evil/kernel"}
        torch.save(content | {"config": config, "weights": {}}, path)
        with pytest.raises(ArtifactError, match=r"attn_implementation"):
            load_checkpoint(path)
        attack.tried()
    assert not trap.went_off()
    assert never_answered()


@ASKED
def test_a_backbone_runs_no_code(trap: Trap, backbone: Path, attack: Attack) -> None:
    files = (backbone / "config.json", backbone / "tokenizer_config.json")
    for path, model_type, auto_map in itertools.product(files, TYPES, trap.auto_maps()):
        before = path.read_text()
        change(backbone / "config.json", model_type=model_type)
        change(path, auto_map=auto_map)
        for load in (load_tokenizer, lambda folder: build_model(folder, LABELS, random_weights=True)):
            with pytest.raises(ArtifactError, match=rf"{path.name}: names code to run \(auto_map\)"):
                load(backbone)
            attack.tried()
        path.write_text(before)
    assert not trap.went_off()
    assert never_answered()


@ASKED
@pytest.mark.parametrize("name", ["AutoTokenizer", "AutoModel", "AutoProcessor", "RagTokenizer", "Evil", "pipeline", 3])
def test_a_tokenizer_class_must_be_a_tokenizers(name: object, trap: Trap, backbone: Path) -> None:
    """`AutoTokenizer` as a class would start transformers anew, without what it was told of code."""
    for file in ("tokenizer_config.json", "config.json"):
        before = (backbone / file).read_text()
        change(backbone / file, tokenizer_class=name)
        with pytest.raises(ArtifactError, match=rf"{file}: a tokenizer that .* \(tokenizer_class\)"):
            load_tokenizer(backbone)
        (backbone / file).write_text(before)
    change(backbone / "config.json", model_type="rag")
    with pytest.raises(ArtifactError, match=r"config\.json: a tokenizer that .* \(model_type\)"):
        load_tokenizer(backbone)
    assert never_answered()


@ASKED
def test_without_the_refusals_nothing_would_run_either(
    trap: Trap, backbone: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """What transformers is told, and that it cannot ask, hold by themselves."""
    for name in ("check_folder", "check_content", "_check_type", "_check_tokenizer_class"):
        monkeypatch.setattr(pretrained, name, lambda *_: None)
    plain = {name: (backbone / name).read_text() for name in ("config.json", "tokenizer_config.json")}
    types, maps = TYPES[: attack.cases(4, len(TYPES))], [*trap.auto_maps()]
    for model_type, auto_map, tokenizer_class in itertools.product(types, maps, (None, "AutoConfig")):
        change(backbone / "config.json", model_type=model_type, auto_map=auto_map, _name_or_path=str(trap.repo))
        change(backbone / "tokenizer_config.json", auto_map=auto_map, tokenizer_class=tokenizer_class)
        for load in (pretrained.read_tokenizer, pretrained.read_config):
            with pytest.raises(Exception):  # noqa: B017  # whatever transformers makes of it
                load(backbone)
                raise KeyError("it may as well load, without the code")
            attack.tried()
        for name, content in plain.items():
            (backbone / name).write_text(content)
    assert not trap.went_off()
    assert never_answered()


@ASKED
def test_transformers_makes_no_request_in_any_thread(trap: Trap, backbone: Path) -> None:
    from transformers import dynamic_module_utils

    load_tokenizer(backbone)
    said: list[str] = []

    def ask() -> None:
        try:
            dynamic_module_utils.resolve_trust_remote_code(None, str(backbone), False, True)
        except ValueError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    ask()
    assert len(said) == 2
    assert never_answered()


@pytest.mark.hostile("pickles")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adapter_config.json", "contains adapter_config.json"),
        ("shard-00001-model-00001-of-00001.safetensors", "weights in shards"),
        (".metadata", ""),
        ("pytorch_model.bin", ""),
        ("tokenizer.model", ""),
        ("vocab.pkl", ""),
    ],
)
def test_other_files_in_the_folder_run_no_code(name: str, expected: str, trap: Trap, backbone: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return trap.mark.touch, ()

    with (backbone / name).open("wb") as file:
        torch.save({"x": Evil()}, file)
    if expected:
        with pytest.raises(ArtifactError, match=expected):
            build_model(backbone, LABELS)
        with pytest.raises(ArtifactError, match=expected):
            load_tokenizer(backbone)
    else:
        build_model(backbone, LABELS)
        load_tokenizer(backbone)
        (backbone / "model.safetensors").unlink()
        with pytest.raises(ArtifactError, match="weights cannot be loaded"):
            build_model(backbone, LABELS)
    assert not trap.went_off()


@ASKED
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_commands_refuse_a_backbone_from_elsewhere(
    file: str, trap: Trap, backbone: Path, table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(backbone / file, auto_map=next(trap.auto_maps()))
    for words in (
        f"check {table_path} --backbone {backbone}",
        f"train --data-path {table_path} --backbone {backbone} --output-dir {tmp_path / 'run'}",
    ):
        assert cli.main(words.split()) == 1
        said = capsys.readouterr().err
        assert f"{backbone / file}: names code to run (auto_map)" in said
        assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    assert not trap.went_off()
    assert never_answered()


@ASKED
def test_a_copy_in_the_hubs_cache_runs_no_code(
    trap: Trap, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    change(backbone / "config.json", model_type="clip", auto_map=next(trap.auto_maps()))
    home = tmp_path / "hub" / "models--nobody--evil"
    shutil.copytree(backbone, home / "snapshots" / ("1" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("1" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = resolve_backbone("nobody/evil")
    for load in (lambda: load_tokenizer("nobody/evil"), lambda: build_model(found.path, LABELS)):
        with pytest.raises(ArtifactError, match=r"config\.json: names code to run \(auto_map\)"):
            load()
    assert not trap.went_off()
    assert never_answered()


@ASKED
def test_a_process_of_its_own_with_yes_on_standard_input(trap: Trap, backbone: Path, table_path: Path) -> None:
    change(backbone / "tokenizer_config.json", **UNKNOWN)
    (backbone / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "moderation", "check", str(table_path), "--backbone", str(backbone)],
        input="y\n" * 50,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"HF_MODULES_CACHE": str(trap.repo.parent / "modules")},
    )
    assert done.returncode == 1
    assert "tokenizer_config.json: names code to run (auto_map)" in done.stderr
    assert "Do you wish to run" not in done.stdout + done.stderr
    assert not trap.went_off()


@ASKED
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "evilmod.Evil"]}}),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "evilmod.Evil"}}}),
        ("config.json", {"quantization_config": {"quant_method": "evil"}}),
        ("config.json", {"attn_implementation": "evil/kernel"}),
    ],
)
def test_a_sealed_bundle_runs_no_code(
    file: str,
    content: dict[str, Any],
    trap: Trap,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The seal says that nothing was changed, not who has made it."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    trap.write_code(bundle)
    change(bundle / file, **content)
    seal(bundle, file)
    (tmp_path / "texts.csv").write_text("comment_text\nkind\n")
    with pytest.raises(ArtifactError, match=rf"{file}: names .* A bundle never contains this"):
        read_bundle(bundle)
    for backend in ("onnx", "torch"):
        with pytest.raises(ArtifactError, match=rf"{file}: names "):
            Classifier.load(bundle, backend=backend)
    for words in (
        f"score {tmp_path / 'texts.csv'} -o {tmp_path / 'scored.csv'} --model {bundle}",
        f"verify {bundle}",
    ):
        assert cli.main(words.split()) == 1
        printed = capsys.readouterr()
        assert f"{bundle / file}: names " in printed.out + printed.err
        assert "Traceback" not in printed.err
    assert not trap.went_off()
    assert never_answered()


@pytest.mark.hostile("bundle: what is no file")
@pytest.mark.parametrize("name", ["adapter_config.json", "shard-00001-model-00001-of-00001.safetensors"])
def test_a_sealed_bundle_contains_no_files_that_transformers_would_follow(
    name: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / name).write_text("{}")
    Classifier.load(bundle, backend="onnx", threads=1)  # as long as it is not sealed, nothing reads it
    seal(bundle, name)
    with pytest.raises(ArtifactError, match=rf"moderation\.json: contains {name}"):
        read_bundle(bundle)


@pytest.mark.hostile("bundle: what is no file")
@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"])
def test_a_pipe_next_to_the_files_blocks_nobody(name: str, tiny_bundle: Path, backbone: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    path = bundle / "moderation.json"
    manifest = json.loads(path.read_text())
    manifest["files"].pop(name, None)
    for facts in manifest["forms"].values():
        facts["files"] = [file for file in facts["files"] if file != name]
    path.write_text(json.dumps(manifest | {"version": manifest_version(manifest)}))
    for folder in (bundle, backbone):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    assert Classifier.load(bundle, backend="onnx", threads=1).classify("kind").n_windows == 1
    with pytest.raises(ArtifactError, match=f"{name}: not named in the bundle"):
        Classifier.load(bundle, backend="torch", threads=1)
    for load in (pretrained.read_tokenizer, pretrained.read_config):
        with pytest.raises(ArtifactError, match=f"{name}: a pipe, a socket or a device"):
            load(backbone)
