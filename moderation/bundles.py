"""Bundles: one sealed folder with weights, tokenizer, labels, thresholds and the SHA-256 of every file.

`moderation.json` is the seal: it names each file with its hash, and its `version` is the hash of its own content. So a
bundle whose version is known is known to the last byte.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from moderation.artifacts import RunFolder, open_regular, read_json, sha256, write_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.forms import FORMS
from moderation.labels import check_same_labels
from moderation.manifest_values import is_whole
from moderation.manifests import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    WITH_LANGUAGES,
    FileFacts,
    Manifest,
    manifest_version,
)
from moderation.model_bounds import MOST_TOKENS
from moderation.pretrained import CONFIGURATIONS, check_content, check_names

TOKENIZER = "tokenizer.json"
MODEL_CONFIG = "config.json"
CARD = "README.md"
TRAINING_TEXTS = "training_texts.npy"
_NO_CODE = "A bundle never contains this: get it from a source that you trust, or export it again."
_UPGRADE = "Install a newer version of the toolkit."

SHIPPED = Path(__file__).parent / "models" / "compact-en"
"""The English bundle of the package, the first of those that are used if none is named."""
AUTO = "auto"
"""Name of all bundles of the package together: the language of a text decides which one reads it."""
NAMED = {"en": SHIPPED}
"""Name -> bundle of the package. A folder with a model and such a name comes first on the command line."""


@dataclass(frozen=True, kw_only=True)
class Bundle(Manifest):
    """A sealed manifest, checked, and the folder that it describes.

    Args:
        path: The folder.
        n_tokens: Size of the model's vocabulary; None: its configuration does not state it.
        pad_id: Token that fills up a batch; the mask hides it, so 0 is enough if the model names none.
        check_hashes: Whether `read_sealed` compares a file's SHA-256.
    """

    path: Path
    n_tokens: int | None = None
    pad_id: int = 0
    check_hashes: bool = True

    @property
    def short_version(self) -> str:
        """Name and the first twelve digits of the version, as in results."""
        return f"{self.name}@{self.version[:12]}"


def find_models(name: str | Path) -> list[Path]:
    """The folders that a name or a path means, in the order in which a classifier asks them.

    Args:
        name: `auto`, `en`, or a folder; a `Path` means a folder that holds a model rather than a name.

    >>> [folder.name for folder in find_models("en")], find_models("runs/mine")
    (['compact-en'], [PosixPath('runs/mine')])
    """
    if isinstance(name, Path) and ((name / MANIFEST).is_file() or RunFolder(name).run_json.is_file()):
        return [name]  # a path does not keep a leading ./
    return list(NAMED.values()) if str(name) == AUTO else [NAMED.get(str(name), Path(name))]


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest. The files' hashes are compared by `check_files`.

    Raises:
        ArtifactError: not a bundle, or of a newer version, a changed manifest, or labels that differ from config.json.
    """
    path = Path(path)
    if path.is_file():
        raise ArtifactError(
            f"{path}: this is a file; expected the folder of a bundle, as written by `moderation export`."
        )
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such folder; expected a bundle, as written by `moderation export`.")
    run = RunFolder(path)
    if not (path / MANIFEST).is_file() and any(file.is_file() for file in (run.run_json, run.checkpoint_best)):
        raise ArtifactError(
            f"{path}: this is a run folder, not a bundle. Export it first: moderation export {path} --to "
            f"{path.name}-bundle, and use {path.name}-bundle instead."
        )
    if not (path / MANIFEST).is_file():
        raise ArtifactError(
            f"{path}: not a bundle (it has no {MANIFEST}). Export a run first: moderation export RUN --to "
            f"{path.name}-bundle"
        )
    content = read_json(path / MANIFEST, "a bundle's manifest", unique_keys=True)
    if not isinstance(content.get("format"), str) or content["format"] != FORMAT:
        raise ArtifactError(f"{path / MANIFEST}: a file of another program; expected {FORMAT!r}.")
    number = content.get("format_version")
    if not is_whole(number) or number not in (FORMAT_VERSION, WITH_LANGUAGES):
        raise ArtifactError(
            f"{path / MANIFEST}: bundle format {escape_name(repr(number))}; this version of the toolkit reads "
            f"{FORMAT_VERSION} and {WITH_LANGUAGES}. {_UPGRADE}"
        )
    if ("by_language" in content) != (number == WITH_LANGUAGES):
        having = "without" if number == WITH_LANGUAGES else "with"
        raise ArtifactError(
            f"{path / MANIFEST}: bundle format {number} {having} thresholds by language. Get the bundle from its "
            "source again, or export it again."
        )
    if content.get("version") != manifest_version(content):
        raise ArtifactError(
            f"{path / MANIFEST}: changed since the export (its version is not the hash of its content). Get the "
            "bundle from its source again, or export it again."
        )
    return _with_config(_check_forms(Bundle.from_plain(content, str(path / MANIFEST), path=path)))


def check_files(bundle: Bundle, names: Iterable[str] | None = None) -> None:
    """Compare files with the manifest: all of them exist with the right size, and the named ones have the right hash.

    Args:
        bundle: From `read_bundle`.
        names: Files to hash; None: all.

    Raises:
        ArtifactError: names the first file that is missing or is not the exported one.
    """
    for name, facts in bundle.files.items():
        file = bundle.path / name
        size = _size_of_file(file)
        if size is None:
            raise ArtifactError(f"{file}: missing; the bundle's {MANIFEST} lists it. Get the whole bundle again.")
        if size != facts.bytes:
            raise ArtifactError(_describe_change(file, f"{size:,} bytes", f"{facts.bytes:,} bytes"))
    for name in bundle.files if names is None else names:
        if name not in bundle.files:
            raise ArtifactError(f"{bundle.path / name}: not listed in the bundle's {MANIFEST}; it will not be used.")
        if (found := sha256(bundle.path / name)) != bundle.files[name].sha256:
            raise ArtifactError(
                _describe_change(bundle.path / name, f"SHA-256 {found}", f"SHA-256 {bundle.files[name].sha256}")
            )


def read_sealed(bundle: Bundle, name: str, *, most: int | None = None) -> bytes:
    """Read a file and compare the bytes that were read, so that nothing can replace them between check and use.

    Args:
        bundle: From `read_bundle`.
        name: The file.
        most: Largest size in bytes; None: whatever the manifest says.

    Raises:
        ArtifactError: the file is missing, too large, or not the exported one.
    """
    file, facts = bundle.path / name, bundle.files.get(name)
    if facts is None:
        raise ArtifactError(f"{file}: not listed in the bundle's {MANIFEST}; it will not be used.")
    try:
        with open_regular(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != facts.bytes:
                raise ArtifactError(_describe_change(file, f"{size:,} bytes", f"{facts.bytes:,} bytes"))
            if most is not None and size > most:
                raise OSError(errno.EFBIG, f"more than {most >> 20} MiB", str(file))
            content = opened.read()
    except FileNotFoundError:
        raise ArtifactError(f"{file}: missing; the bundle's {MANIFEST} lists it. Get the whole bundle again.") from None
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error.strerror}).") from error
    if bundle.check_hashes and (found := hashlib.sha256(content).hexdigest()) != facts.sha256:
        raise ArtifactError(_describe_change(file, f"SHA-256 {found}", f"SHA-256 {facts.sha256}"))
    return content


def find_foreign(bundle: Bundle) -> list[str]:
    """Everything in the folder that is not sealed: files, links, folders without a sealed file; sorted paths."""
    known = {MANIFEST, *bundle.files}
    folders = {parent.as_posix() for name in bundle.files for parent in PurePosixPath(name).parents}
    found = []
    for path in bundle.path.rglob("*"):  # does not follow links to folders
        name = path.relative_to(bundle.path).as_posix()
        is_folder = name in folders and path.is_dir() and not path.is_symlink()
        if name not in known and not is_folder:
            found.append(name)
    return sorted(found)


def write_manifest(path: Path, manifest: Manifest) -> Bundle:
    """Seal a folder: hash every file in it and write `moderation.json`.

    Args:
        path: The folder.
        manifest: Its manifest; the files and the version are filled in.

    Raises:
        ArtifactError: the content is not a valid bundle, or the folder cannot be written.
    """
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    files = {name: FileFacts(sha256(path / name), (path / name).stat().st_size) for name in names if name != MANIFEST}
    content = replace(manifest, files=files).to_plain()
    bundle = _with_config(_check_forms(Bundle.from_plain(content, str(path / MANIFEST), path=path)))
    write_json(path / MANIFEST, content)
    return bundle


def _check_forms(bundle: Bundle) -> Bundle:
    """Refuse a bundle whose forms lack files, or that contains code."""
    if problem := _find_problem(bundle):
        raise ArtifactError(f"{bundle.path / MANIFEST}: {problem}")
    return bundle


def _find_problem(bundle: Bundle) -> str | None:
    for name, facts in bundle.forms.items():
        if name not in FORMS:
            continue
        for file in FORMS[name].files(bundle.name):
            if file not in facts.files:
                return f"form {name} has no {file}."
    if unsealed := {TOKENIZER, MODEL_CONFIG} - bundle.files.keys():
        return f"{' and '.join(sorted(unsealed))} missing from its files."
    top = [name for name in bundle.files if "/" not in name]
    if code := [name for name in top if name.endswith(".py")]:
        return f"{escape_name(code[0])} among its files, which transformers would run; a bundle contains no code."
    check_names(top, str(bundle.path / MANIFEST), _NO_CODE)
    return None


def _with_config(bundle: Bundle) -> Bundle:
    """Check that the plain Hugging Face folder has the manifest's labels, reads its windows, and contains no code."""
    contents = {name: _read_sealed_json(bundle, name) for name in CONFIGURATIONS if name in bundle.files}
    for name, content in contents.items():
        check_content(content, str(bundle.path / name), _NO_CODE)
    where, config = bundle.path / MODEL_CONFIG, contents[MODEL_CONFIG]
    names = config.get("id2label", {})
    try:
        found = [str(names[key])[:200] for key in sorted(names, key=int)[: len(bundle.labels) + 9]]
    except (ValueError, TypeError):
        found = []
    check_same_labels(found, bundle.labels, f"{where} (id2label)")
    n_tokens, pad_id = config.get("vocab_size"), config.get("pad_token_id")
    if n_tokens is not None and (not is_whole(n_tokens) or not 0 < n_tokens <= MOST_TOKENS):
        raise ArtifactError(f"{where}: its vocab_size is not a valid number of tokens.")
    if pad_id is not None and (not is_whole(pad_id) or not 0 <= pad_id < (n_tokens or MOST_TOKENS)):
        raise ArtifactError(f"{where}: its pad_token_id is not the number of a token.")
    positions = config.get("max_position_embeddings")
    if is_whole(positions) and positions < bundle.window_length:
        raise ArtifactError(f"{where}: reads {positions} tokens, but the bundle's windows have {bundle.window_length}.")
    return replace(bundle, n_tokens=n_tokens, pad_id=pad_id or 0)


def _read_sealed_json(bundle: Bundle, name: str) -> dict[str, Any]:
    path = bundle.path / name
    if _size_of_file(path) is None:  # such as a pipe, which could be read forever
        raise ArtifactError(f"{path}: missing; the bundle's {MANIFEST} lists it. Get the whole bundle again.")
    return read_json(path, "a configuration, as written by transformers", unique_keys=True)


def _size_of_file(path: Path) -> int | None:
    """Bytes of a regular file; None if it is missing or something else."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # also a name that a file cannot have, a folder that must not be entered
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _describe_change(file: Path, found: str, expected: str) -> str:
    return (
        f"{file}: not the file that was exported.\n  found:    {found}\n  expected: {expected}\n"
        "It was changed, damaged, or replaced while the bundle was in use. Get the whole bundle again; if it was "
        "replaced on purpose, load it again."
    )
