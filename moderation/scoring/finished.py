"""An output that is already finished: whether the same run made it, and whether the file is unchanged since."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from moderation.artifacts import read_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name
from moderation.scoring.origins import FORMAT, KEY, describe_content, sidecar_of
from moderation.scoring.resume import describe_file
from moderation.strict_json import parse_strictly

_COMPARED = ("model", "labels", "thresholds", "thresholds_from", "input", "settings")
_CURE = "Choose another name, or replace it with --overwrite."


def check_finished(output: Path, wanted: Mapping[str, Any], *, is_parquet: bool) -> tuple[int, int]:
    """Compare what a finished output records about its origin with what this run would record.

    Args:
        output: The file.
        wanted: From `Origin.to_plain`.
        is_parquet: Whether the record is in the file's metadata; other formats have a JSON file next to them.

    Returns:
        Its number of rows, and of rows with an error.

    Raises:
        ArtifactError: it has no record, it was changed, or another input, model or setting made it.
    """
    found = _read_metadata(output) if is_parquet else _read_beside(output)
    n_rows, n_failed = found.get("rows"), found.get("errors")
    if found.get("format") != FORMAT or type(n_rows) is not int or type(n_failed) is not int:
        raise _unknown(output)
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
        raise ArtifactError(f"{output}: was changed after it was finished (compare {path.name}). {_CURE}")
    return found


def _read_metadata(output: Path) -> dict[str, object]:
    try:
        about = pa.parquet.read_metadata(output)
        found = parse_strictly((about.metadata or {})[KEY.encode()])
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError):
        raise _unknown(output) from None
    if not isinstance(found, dict) or found.get("rows") != about.num_rows:
        raise _unknown(output)
    return found


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
