"""The only place that loads configurations, tokenizers and models with transformers: no file can bring code.

transformers runs code that a model's files name if it is told to trust them; otherwise it asks, and reads the answer
from standard input. Here it is always told not to trust them, and never asks. A file that names code, or sends
transformers to files other than those that were checked, is refused before transformers sees it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.artifacts import read_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.model_bounds import TooLargeError, is_far_too_many, no_larger_than

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_WEIGHTS = "model.safetensors"
CONFIGURATIONS = (_CONFIG, _TOKENIZER_CONFIG)
"""Files of a transformers folder that could name code."""

# Key, at any depth -> what it makes transformers do. The first two are always refused, the others unless they are null.
_CODE = {
    "auto_map": "names code to run",
    "custom_pipelines": "names code to run",
    "quantization_config": "names a library to unpack the weights",
    "compression_config": "names a library to unpack the weights",
    "fusion_config": "replaces parts of transformers",
    "distributed_config": "spreads the model over machines",
    "configuration_files": "points to another configuration",
    "transformers_weights": "points to weights other than model.safetensors",
}
_IN_ANY_FORM = ("auto_map", "custom_pipelines")
# Which code computes attention, or experts: a name with a slash is a repository of compiled code.
_IMPLEMENTATIONS = tuple(
    f"{start}{part}_implementation{end}"
    for part in ("attn", "experts")
    for start in ("", "_")
    for end in ("", "_internal")
)
_BUILT_IN = (None, "eager", "sdpa", "grouped_mm", "batched_mm")
# Files that transformers loads in addition to, or instead of, those that are checked here.
_FILES = {
    "adapter_config.json": "an adapter, which another package would load",
    "shard-*-model-*-of-*.safetensors": "weights in shards, which would be used instead of model.safetensors",
}
_OTHER_WEIGHTS = f"Download {_CONFIG} and {_WEIGHTS} again, both from the same source."
_NOTHING_RUNS = "Code that a model's files name is never run."
_OTHER_MODEL = "Use a model that transformers supports itself; if it supports this one, remove that key."


def check_folder(folder: Path, configurations: Iterable[tuple[Path, Mapping[str, Any]]]) -> None:
    """Refuse a folder whose files would make transformers run code, or read files other than its own.

    Args:
        folder: A local folder.
        configurations: Path and content of the configurations in it.

    Raises:
        ArtifactError: names the file and the key.
    """
    for path, content in configurations:
        check_content(content, str(path))
    check_names((path.name for path in folder.glob("*")), str(folder))


def check_names(names: Iterable[str], where: str, cure: str = "Remove it, or use a folder without it.") -> None:
    """Refuse files that transformers would load in addition to, or instead of, those that are checked here.

    Args:
        names: Names of the files in a folder.
        where: The folder, for the message.
        cure: For the message.

    Raises:
        ArtifactError: names the file.
    """
    for name in names:
        for pattern, what in _FILES.items():
            if fnmatchcase(name, pattern):
                raise ArtifactError(f"{where}: contains {escape_name(name)}, {what}. {cure}")


def check_content(content: Mapping[str, Any], where: str, cure: str = _OTHER_MODEL) -> None:
    """Refuse a configuration of a model or tokenizer that names code or is out of bounds; see `check_folder`.

    Args:
        content: Plain values; parts may contain each other.
        where: The file, for the message.
        cure: For the message.

    Raises:
        ArtifactError: names the file and the key.
    """
    for path, value in _keys(content):
        key = path[-1]
        named = ".".join(map(escape_name, path[-5:]))
        if key in _CODE and (value is not None or key in _IN_ANY_FORM):
            raise ArtifactError(f"{where}: {_CODE[key]} ({named}). {_NOTHING_RUNS} {cure}")
        if is_far_too_many(key, value):
            raise ArtifactError(f"{where}: requests far more parts than any model has ({named}). {cure}")
        if key in _IMPLEMENTATIONS and not all(name in _BUILT_IN for name in _names(value)):
            raise ArtifactError(
                f"{where}: names code for computing ({named}); expected eager or sdpa, which are part of "
                f"transformers. {_NOTHING_RUNS} {cure}"
            )


def _configurations(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and content of each configuration of a model or tokenizer, in a folder without pipes or devices.

    Raises:
        ArtifactError: the folder has something other than files and folders, or a configuration cannot be read.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ArtifactError(f"{path}: a pipe, a socket or a device; expected a regular file. Remove it.")
    for name in CONFIGURATIONS:
        path = folder / name
        if path.exists() and not path.is_file():
            raise ArtifactError(f"{path}: not a regular file; expected a JSON object, as written by transformers.")
        if path.exists():
            yield path, read_json(path, "a JSON object, as written by transformers")


def read_config(folder: Path) -> PreTrainedConfig:
    """Read the `config.json` of a local folder.

    Raises:
        ArtifactError: it names code, or an architecture that transformers does not know.
        Exception: anything that transformers raises for a file that it cannot read.
    """
    auto = _door(folder)
    return auto.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)  # type: ignore[no-any-return]


def make_config(content: Mapping[str, Any], where: str) -> PreTrainedConfig:
    """Make a configuration from its plain values, including `model_type`.

    Args:
        content: The output of `PreTrainedConfig.to_dict`.
        where: The file that it comes from, for the message.

    Raises:
        ArtifactError: it names code, or an architecture that transformers does not know.
        Exception: anything that transformers raises for values that do not fit.
    """
    check_content(content, where)
    auto = _transformers()
    _check_type(content, where)
    values = {key: value for key, value in content.items() if key != "_name_or_path"}  # a folder on another machine
    return auto.AutoConfig.for_model(**values)  # type: ignore[no-any-return]


def make_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a text classifier with random weights, float32.

    Args:
        config: From `read_config` or `make_config`.

    Raises:
        Exception: anything that transformers raises for an architecture that cannot classify texts.
    """
    import torch

    auto = _transformers()
    return auto.AutoModelForSequenceClassification.from_config(  # type: ignore[no-any-return]
        config, dtype=torch.float32, trust_remote_code=False
    )


def read_model(folder: Path, config: PreTrainedConfig | None = None) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a text classifier from `model.safetensors`, float32, on the CPU.

    Args:
        folder: A local folder with `config.json`.
        config: Used instead of the folder's own.

    Returns:
        The model, and transformers' report on the weights: `missing_keys` and so on.

    Raises:
        ArtifactError: the folder names code or an architecture that transformers does not know, or describes a model
            that is much larger than the weights.
        Exception: anything that transformers raises for weights that it cannot load.
    """
    import torch

    auto = _door(folder)
    weights = folder / _WEIGHTS
    try:
        with no_larger_than(_measure(weights)) if weights.is_file() else nullcontext():
            return auto.AutoModelForSequenceClassification.from_pretrained(  # type: ignore[no-any-return]
                folder,
                **({} if config is None else {"config": config}),
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
    except TooLargeError as error:
        raise ArtifactError(f"{folder / _CONFIG}: describes {error} ({_WEIGHTS}). {_OTHER_WEIGHTS}") from None


def read_whole_model(folder: Path) -> PreTrainedModel:
    """Like `read_model`, but all weights must be present: transformers draws random numbers for missing ones.

    Raises:
        ArtifactError: as for `read_model`, or a weight is missing or has another shape; the message names it.
        Exception: anything that transformers raises for weights that it cannot load.
    """
    model, found = read_model(folder)
    missing = sorted(str(name) for name in found["missing_keys"])
    missing += sorted(str(name) for name, *_ in found["mismatched_keys"])
    if missing:
        raise ArtifactError(
            f"{folder / _WEIGHTS}: lacks {len(missing)} weights of the model that {_CONFIG} describes, "
            f"such as {escape_name(missing[0])}. {_OTHER_WEIGHTS}"
        )
    return model


def _measure(weights: Path) -> dict[str, int]:
    """Number of values of each tensor in a safetensors file; its library checks that they are all present."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a local folder, out of a copy that holds only its own files; see `tokenizer_folders`.

    Raises:
        ArtifactError: the folder names code, or a tokenizer or an architecture that transformers does not know; or its
            tokenizer may hold up or crash the process.
        Exception: anything that transformers raises for files that it cannot read.
    """
    from moderation.inspection.text_limits import find_limits
    from moderation.inspection.tokenizer_folders import copied

    auto = _door(folder)
    with copied(folder) as copy:
        tokenizer: Any = auto.AutoTokenizer.from_pretrained(copy, local_files_only=True, trust_remote_code=False)
    tokenizer.name_or_path = tokenizer.init_kwargs["name_or_path"] = str(folder)
    find_limits(tokenizer, str(folder))  # also of one that was made out of a vocabulary
    return tokenizer  # type: ignore[no-any-return]


def read_pipeline(folder: Path) -> Any:
    """The transformers pipeline for text classification with a local folder, on the CPU."""
    model = read_whole_model(folder)
    tokenizer = read_tokenizer(folder)
    return _transformers().pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu", trust_remote_code=False
    )


def _door(folder: Path) -> Any:
    """transformers, after checking that a folder brings no code and names nothing that it does not know."""
    configurations = [*_configurations(folder)]
    check_folder(folder, configurations)
    auto = _transformers()
    for path, content in configurations:
        _check_tokenizer_class(content, str(path))
        if path.name == _CONFIG and "model_type" in content:
            _check_type(content, str(path))
    return auto


def _transformers() -> Any:
    """The library; from now on it never asks in this process whether to run code.

    It would ask wherever it forgets what it was told: a tokenizer of class `AutoTokenizer` makes it start over. With no
    time to wait for an answer, it raises an error at once, in any thread, and does not read standard input.
    """
    import transformers
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    return transformers


def _check_type(content: Mapping[str, Any], where: str) -> None:
    from transformers import CONFIG_MAPPING

    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ArtifactError(
            f"{where}: an architecture that the installed transformers does not know (model_type). Use another model, "
            "or a version of transformers that supports this one."
        )


def _check_tokenizer_class(content: Mapping[str, Any], where: str) -> None:
    """Check that a name is that of a tokenizer: transformers would call anything with that name."""
    from transformers import PreTrainedTokenizerBase
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    named = [("tokenizer_class", content.get("tokenizer_class"))]
    model_type = content.get("model_type")
    if isinstance(model_type, str) and model_type in TOKENIZER_MAPPING_NAMES:
        named.append(("model_type", TOKENIZER_MAPPING_NAMES[model_type]))
    for key, name in named:
        if name is None:
            continue
        found: Any = tokenizer_class_from_name(name) if isinstance(name, str) else None
        if not (isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase)):
            raise ArtifactError(
                f"{where}: a tokenizer that the installed transformers does not know, or whose package is missing "
                f"({key}). If there is a tokenizer.json, set tokenizer_class to PreTrainedTokenizerFast there."
            )


def _keys(content: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key at any depth, with its path and value. Values that contain themselves are visited once."""
    parts: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    while parts:
        path, part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            for key, value in part.items():
                yield (*path, str(key)), value
                parts.append(((*path, str(key)), value))
        elif isinstance(part, (list, tuple)):
            parts += [(path, value) for value in part]


def _names(value: Any) -> list[Any]:
    """Names of implementations: one, or one per part of a model."""
    parts = list(value.values()) if isinstance(value, Mapping) else [value]
    return [part if part is None or isinstance(part, str) else object() for part in parts]
