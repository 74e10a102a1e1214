"""The suites at thresholds of one's own: its figures move, and it says whose thresholds they are of."""

import json

import pytest

from moderation import cli
from moderation.bundles import SHIPPED

pytest.importorskip("onnxruntime")


@pytest.fixture
def measure(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(
        "text,toxic\n" + "".join(f"you are an idiot {row},1\nhave a nice day {row},0\n" for row in range(6)),
        encoding="utf-8",
    )

    def run(*words):
        suite = f"mine:binary={tmp_path / 't.csv'}"
        given = ["evaluate", str(SHIPPED), "--suite", suite, "--bootstrap", "0", "--threads", "1"]
        code = cli.main([*given, "--output-dir", str(tmp_path), *map(str, words)])
        said = capsys.readouterr()
        written = json.loads((tmp_path / "suites.json").read_text(encoding="utf-8")) if not code else None
        page = (tmp_path / "suites.html").read_text(encoding="utf-8") if not code else ""
        return code, said.out + said.err, written, page

    return run


def test_figures_are_those_of_the_thresholds_that_were_set(measure, tmp_path):
    code, said, shipped, page = measure()
    assert code == 0, said
    assert (shipped["thresholds_from"], "were set" in said) == ("bundle", False)
    assert "Thresholds as shipped" in page
    (tmp_path / "mine.json").write_text('{"toxic": 0.9999}', encoding="utf-8")
    for words in (("--threshold", "toxic=0.9999"), ("--thresholds", tmp_path / "mine.json")):
        code, said, changed, page = measure(*words)
        assert (code, changed["thresholds_from"]) == (0, "set")
        assert "thresholds were set: toxic 0.9999" in said
        assert "Thresholds as set for this measurement" in page
        assert changed["thresholds"] == shipped["thresholds"] | {"toxic": 0.9999}
        f1 = [next(f["value"] for f in found["suites"]["mine"]["figures"] if f["measure"] == "F1")
              for found in (shipped, changed)]  # fmt: skip
        assert f1[0] > f1[1]


@pytest.mark.parametrize("word", ["spam=0.5", "toxic=2", "toxic"])
def test_invalid_thresholds_are_refused(measure, word):
    code, said, _, _ = measure("--threshold", word)
    assert code == 2
    assert "--threshold" in said


def test_single_thresholds_are_only_for_a_bundle(capsys):
    assert cli.main(["evaluate", "--checkpoint", "x.pt", "--threshold", "toxic=0.5"]) == 2
    assert "--threshold: only for a bundle" in capsys.readouterr().err


def test_the_figures_record_how_the_tables_were_read(measure):
    code, said, written, _ = measure("--quoting", "none")
    assert code == 0, said
    assert written["table_settings"] == {"quoting": "none"}
