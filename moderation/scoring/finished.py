"""An output that is already finished: whether the same run made it, and whether the file is unchanged since."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from moderation.artifacts import read_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.scoring.origins import FORMAT, VERSION, describe_content, describe_file, sidecar_of
from moderation.scoring.seals import is_unchanged, read_record
from moderation.scoring.writers import OutputFormat

_COMPARED = ("model", "labels", "thresholds", "thresholds_from", "input", "settings")
_CURE = "Choose another name, or replace it with --overwrite."


def check_finished(output: Path, wanted: Mapping[str, Any], form: OutputFormat) -> tuple[int, int]:
    """Compare what a finished output records about its origin with what this run would record.

    Args:
        output: The file.
        wanted: From `Origin.to_plain`.
        form: Its format.

    Returns:
        Its number of rows, and of rows with an error.

    Raises:
        ArtifactError: it has no record, it was changed, or another input, model or setting made it.
    """
    found = _read_inside(output) if form.holds_record else _read_beside(output)
    n_rows, n_failed = found.get("rows"), found.get("errors")
    if found.get("format") != FORMAT or type(n_rows) is not int or type(n_failed) is not int:
        raise _unknown(output)
    if found.get("version") != VERSION:
        raise ArtifactError(
            f"{output}: another version of the toolkit finished it, with its origin in another format. {_CURE}"
        )
    changed = [line for key in _COMPARED for line in _differences(key, found.get(key), _plain(wanted[key]))]
    if changed:
        raise ArtifactError(
            f"{output}: is finished, but a different run made it:\n  "
            + "\n  ".join(changed)
            + f"\nNothing was changed. {_CURE}"
        )
    return n_rows, n_failed


def _read_beside(output: Path) -> dict[str, object]:
    path = sidecar_of(output)
    if not path.exists():
        raise _unknown(output)
    found = read_json(path, f"the record of {output.name}")
    if found.get("output") != describe_content(describe_file(output)):
        raise _changed(output, f" (compare {path.name})")
    return found


def _read_inside(output: Path) -> dict[str, object]:
    try:
        found = read_record(output)
        made = found.get("output")
        is_same = isinstance(made, dict) and is_unchanged(output, str(made.get("sha256")))
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError):
        raise _unknown(output) from None
    if made is None:
        raise ArtifactError(
            f"{output}: an older version of the toolkit finished it, without a SHA-256 that would show whether it is "
            f"unchanged. {_CURE}"
        )
    if not is_same:
        raise _changed(output)
    return found


def _changed(output: Path, where: str = "") -> ArtifactError:
    return ArtifactError(f"{output}: was changed after it was finished{where}. {_CURE}")


def _unknown(output: Path) -> ArtifactError:
    return ArtifactError(f"{output}: the file exists, but has no record that this toolkit finished it. {_CURE}")


def _plain(value: Any) -> Any:
    """A value as JSON returns it."""
    return json.loads(json.dumps(value).encode("utf-8", "backslashreplace"))


def _differences(name: str, found: Any, wanted: Any) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted | found:
            yield from _differences(f"{name}.{escape_name(key)}", found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"{name} was {escape_name(json.dumps(found))}, now {escape_name(json.dumps(wanted))}"
