"""The model card: what labels are called is shown letter by letter, and the tables keep their shape."""

import dataclasses
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moderation.artifacts import RunFolder
from moderation.bundles import SHIPPED, read_bundle
from moderation.commands import export
from moderation.config import ExportConfig
from moderation.export.card import write_card
from moderation.inference.run_folders import read_run
from moderation.training.checkpoints import load_checkpoint
from moderation.training.runs import run_settings
from tests.attack_table import Attack
from tests.hostile_names import SHOWN

CARD_JS = Path(__file__).parents[2] / "moderation" / "serving" / "page" / "card.js"
SHOW = """
import { renderCard } from "./card.mjs";
class Element {
  constructor(name) { this.name = name; this.children = []; this.classList = { add() {} }; }
  append(...children) { this.children.push(...children); }
  setAttribute() {}
}
globalThis.document = { createElement: (name) => new Element(name) };
const text = (node) => (typeof node === "string" ? node : node.children.map(text).join(""));
const below = (node) => (typeof node === "string" ? [] : [node, ...node.children.flatMap(below)]);
const find = (node, name) => below(node).filter((one) => one.name === name);
let input = "";
process.stdin.on("data", (some) => (input += some)).on("end", () => {
  const blocks = renderCard(input);
  const rows = blocks.flatMap((block) => find(block, "tr")).map((row) => row.children.map(text));
  console.log(JSON.stringify({ rows, links: blocks.flatMap((block) => find(block, "a")).length }));
});
"""


def card_of(names: tuple[str, ...]) -> str:
    """The shipped bundle's card, if its labels had these names."""
    bundle = read_bundle(SHIPPED)
    new = dict(zip(bundle.labels, names, strict=True))
    measured = bundle.records["metrics"]["test"]
    labels = {new[label]: found for label, found in measured["labels"].items()}
    records = bundle.records | {"metrics": {"test": measured | {"labels": labels}}}
    return write_card(dataclasses.replace(bundle, labels=names, mapping={}, records=records))


def in_groups() -> list[tuple[str, ...]]:
    names = [name for name in SHOWN if len(name) < 100]
    n_labels = len(read_bundle(SHIPPED).labels)
    return [tuple(names[start : start + n_labels]) for start in range(0, len(names) - n_labels + 1, n_labels)]


def kinds_of(tokens: list[Any]) -> Counter[str]:
    """Links, images, HTML and the like; code aside, which names of categories are."""
    return Counter(
        part.type for token in tokens for part in token.children or [] if part.type[:4] not in ("text", "code")
    )


@pytest.mark.hostile("Markdown: hostile names")
def test_tables_show_every_name_and_no_markup_begins_in_one(attack: Attack) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    plain = reader.parse(card_of(tuple(f"label{number}" for number in range(len(in_groups()[0])))))
    for names in in_groups():
        tokens = reader.parse(card_of(names))
        assert [token.type for token in tokens] == [token.type for token in plain], names
        cells = ["".join(part.content for part in token.children or []) for token in tokens if token.type == "inline"]
        for name in names:
            assert cells.count(name) == 4, (name, "thresholds, other APIs, calibration, figures")
        assert kinds_of(tokens) == kinds_of(plain), names
        attack.tried(len(names))


@pytest.mark.hostile("Markdown: hostile names")
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_page_of_the_server_shows_them_too(tmp_path: Path, attack: Attack) -> None:
    shutil.copy(CARD_JS, tmp_path / "card.mjs")
    (tmp_path / "show.mjs").write_text(SHOW, encoding="utf-8")
    for names in in_groups() if attack.long else in_groups()[1:2]:
        done = subprocess.run(
            ["node", "show.mjs"], input=card_of(names), capture_output=True, text=True, cwd=tmp_path, check=True
        )
        for name in names:
            assert done.stdout.count(json.dumps(name, ensure_ascii=False)) == 4, name
        assert '"links":0' in done.stdout
        attack.tried(len(names))


@pytest.mark.parametrize(("kept", "expected"), [(["de"], ("de",)), (["pt_BR", "EN"], ("pt-BR", "en")), (["any"], ())])
def test_the_languages_are_those_that_the_run_was_trained_on(
    kept: list[str], expected: tuple[str, ...], tiny_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"settings": record["settings"] | {"languages": kept}}))
    assert read_run(run, "torch").bundle.languages == expected
    found = export._describe(
        RunFolder(run),
        ExportConfig(run=run, to=tmp_path / "bundle"),
        load_checkpoint(run / "checkpoint_best.pt"),
        run_settings(RunFolder(run)),
    )
    assert found.languages == expected
    card = write_card(dataclasses.replace(read_bundle(SHIPPED), languages=found.languages))
    assert f"Trained on {', '.join(expected) or 'a table whose languages are not recorded'}." in card
    assert ("\nlanguage:\n" in card) == bool(expected)
