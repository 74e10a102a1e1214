"""A finished output of any format is recognised as long as every byte of it is as it was, and not after that."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moderation.errors import ArtifactError
from moderation.scoring.finished import check_finished
from moderation.scoring.origins import BLANK, FORMAT, VERSION, encode_metadata, sidecar_of
from moderation.scoring.seals import seal
from moderation.scoring.writers import open_output, output_format
from tests.attack_table import Attack

ABOUT: dict[str, object] = {"format": FORMAT, "version": VERSION, "model": {"name": "m"}, "labels": ["toxic"]}
ABOUT |= {"thresholds": {"toxic": 0.5}, "thresholds_from": "bundle", "input": {"name": 'a"}}'}, "settings": {}}
ABOUT |= {"rows": 200, "errors": 3}
NAMES = ["o.csv", "o.tsv.gz", "o.jsonl.zst", "o.parquet", "o.parquet.gz", "o.parquet.zip", "o.PARQUET.zst"]


def finish(path: Path, schema_metadata: dict[str, str] | None = None) -> Path:
    """A small scored file of each format, as `score` leaves it."""
    form = output_format(path)
    texts = [f"text {number}" for number in range(200)]
    odd = f'"output": {{"sha256": "{BLANK}"}}}}'  # a column that looks like the end of the record
    batch = pa.RecordBatch.from_pydict({"text": texts, odd: pa.array([0.5] * 200)}, metadata=schema_metadata)
    with (
        path.open("wb") as file,
        open_output(file, form, batch.schema, lambda: encode_metadata(ABOUT, sealed=form.holds_record)) as write,
    ):
        write(batch)
    made = seal(path, path, form, ABOUT)
    assert made.bytes == path.stat().st_size
    return path


@pytest.mark.hostile("score: changed output")
@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_is_recognised(name: str, tmp_path: Path, attack: Attack) -> None:
    output = finish(tmp_path / name)
    form = output_format(output)
    assert check_finished(output, ABOUT, form) == (200, 3)
    before, rng = output.read_bytes(), random.Random(3)
    places = rng.sample(range(len(before)), min(len(before), attack.cases(80, 3_000)))
    changed = [before[:place] + bytes([before[place] ^ 1 << place % 8]) + before[place + 1 :] for place in places]
    for content in (*changed, before[:-1], before + b"x", before[: len(before) // 2], b"", before[1:]):
        output.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"was changed after it was finished|--overwrite"):
            check_finished(output, ABOUT, form)
        attack.tried()
    output.write_bytes(before)
    assert check_finished(output, ABOUT, form) == (200, 3)


def test_a_parquet_file_whose_metadata_quotes_the_record_is_recognised_too(tmp_path: Path) -> None:
    quoted = {"before": encode_metadata(ABOUT, sealed=True)["content-moderation"][1:], "content-moderation": "older"}
    output = finish(tmp_path / "o.parquet", quoted)
    assert check_finished(output, ABOUT, output_format(output)) == (200, 3)
    assert pq.read_table(output).num_rows == 200


def test_an_output_of_an_older_or_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    older = encode_metadata(ABOUT, sealed=False)
    pq.write_table(pa.table({"text": ["a"]}).replace_schema_metadata(older), output)
    with pytest.raises(ArtifactError, match=r"an older version of the toolkit finished it, .*--overwrite"):
        check_finished(output, ABOUT, output_format(output))
    output = finish(tmp_path / "o.csv")
    beside = json.loads(sidecar_of(output).read_text(encoding="utf-8"))
    sidecar_of(output).write_text(json.dumps(beside | {"version": 2}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="another version of the toolkit finished it"):
        check_finished(output, ABOUT, output_format(output))
