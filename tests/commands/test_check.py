import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moderation.cli import main
from moderation.commands.check import check, count_tokens
from moderation.config import CheckConfig
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.errors import ArtifactError, DataError

SECRET = "zanzibar"


def test_a_sound_table_is_reported_in_full(
    table: pd.DataFrame, table_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(CheckConfig(data_path=table_path)) == 0
    shown = capsys.readouterr().out
    assert str(table_path) in shown and f"rows                 {len(table)}" in shown
    assert f"{table['severe_toxic'].sum()}" in shown and "rows with both" in shown
    assert "different texts that are in two files" not in shown


def test_json_to_a_file_and_to_standard_output(
    table: pd.DataFrame, table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part.parquet"
    pd.concat([table.head(20), table.head(5)]).to_parquet(part)

    assert check(CheckConfig(data_path=table_path, also=(part,), json=tmp_path / "new" / "report.json")) == 0
    assert "20  " in capsys.readouterr().out
    report = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert report["shared_texts"] == [{"tables": [str(table_path), str(part)], "count": 20}]
    assert report["tables"][str(part)]["n_duplicates"] == 5
    assert report["tables"][str(table_path)]["labels"]["toxic"]["count"] == int(table["toxic"].sum())
    assert report["problems"] == {}

    assert check(CheckConfig(data_path=table_path, also=(part,), json=Path("-"))) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_all_problems_of_all_tables_come_at_once_and_the_rest_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = pd.DataFrame(
        {"comment_text": [SECRET, "b", "c"], "toxic": ["yes", "0", "1"], "threat": 0, "insult": [0, 1, 1]}
    )
    bad.to_csv(tmp_path / "bad.csv", index=False)
    pd.DataFrame({"words": [SECRET]}).to_csv(tmp_path / "other.csv", index=False)
    (tmp_path / "ragged.csv").write_text(f"comment_text,toxic\n{SECRET}\n", encoding="utf-8")
    also = (tmp_path / "other.csv", tmp_path / "ragged.csv", tmp_path / "none.csv")

    with pytest.raises(DataError) as caught:
        check(CheckConfig(data_path=tmp_path / "bad.csv", also=also, json=tmp_path / "report.json"))

    message = str(caught.value)
    for part in ("'toxic': 1 value is not numeric", "'threat': no positives", "no column 'comment_text'", "rows: 1"):
        assert part in message
    assert "none.csv: no such file" in message
    shown = capsys.readouterr().out
    assert "rows                 3" in shown and " insult" in shown and " threat" in shown and " toxic" not in shown
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(report["problems"]) == 4 and report["tables"][str(tmp_path / "bad.csv")]["n_rows"] == 3
    assert SECRET not in message + shown + json.dumps(report)


def test_additional_tables_may_lack_a_class(table_path: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    small = tmp_path / "small.csv"
    table.assign(threat=0).head(50).to_csv(small, index=False)
    assert check(CheckConfig(data_path=table_path, also=(small,))) == 0


def test_additional_tables_need_the_labels_of_the_first_as_in_training(
    table_path: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    other = tmp_path / "val.csv"
    table.drop(columns="threat").head(50).to_csv(other, index=False)
    with pytest.raises(DataError, match="no column 'threat'") as of_check:
        check(CheckConfig(data_path=table_path, also=(other,)))
    with pytest.raises(DataError) as of_train:
        load_splits(SplitOptions(data_path=table_path, val_path=other))
    assert str(of_check.value) == str(of_train.value)


def test_token_lengths_are_the_tokenizers_own(
    tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["kind river", "idiot " * 40, "a"]
    path = tmp_path / "t.csv"
    pd.DataFrame({"comment_text": texts, "toxic": [0, 1, 0]}).to_csv(path, index=False)
    config = CheckConfig(data_path=path, backbone=str(tiny_backbone), max_length=16, json=Path("-"))
    assert check(config) == 0
    report = json.loads(capsys.readouterr().out)["tables"][str(path)]
    assert (report["tokens"]["min"], report["tokens"]["max"], report["n_too_long"]) == (3, 42, 1)
    assert report["max_length"] == 16


def test_count_tokens_cuts_nothing(tiny_backbone: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone)
    lengths = count_tokens(["fine", "bread " * 500, *["kind fine"] * 2500], tokenizer)
    assert lengths.dtype == np.int32
    assert lengths.tolist() == [3, 502, *[4] * 2500]


def test_command_line_and_exit_codes(table_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(table_path)]) == 0
    assert "rows with both" in capsys.readouterr().out
    latin = tmp_path / "latin.csv"
    latin.write_bytes(f"comment_text,toxic\n{SECRET} caf\xe9,1\n".encode("latin-1"))
    assert main(["check", str(latin)]) == 1
    captured = capsys.readouterr()
    assert "UTF-8" in captured.err and "Traceback" not in captured.err and SECRET not in captured.err
    assert main(["check", str(table_path), "--delimiter", "::"]) == 2


def test_a_report_that_cannot_be_written_is_an_artifact_error(table_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="could not be written"):
        check(CheckConfig(data_path=table_path, json=tmp_path))
