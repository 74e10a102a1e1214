"""The table, the JSON and the page: figures of others stand beside ours, and say where they may not be compared."""

import dataclasses
import json
from html.parser import HTMLParser

import pytest

from moderation.suites.measuring import measure_suites
from moderation.suites.options import SuiteOptions
from moderation.suites.published import PUBLISHED
from moderation.suites.records import SUITES, record_suites
from moderation.suites.registry import KINDS, Suite
from moderation.suites.results import SuitesReport
from moderation.suites.summary import format_suites, render_page, summarise
from tests.attack_table import Attack
from tests.hostile_names import OBEYED, SHOWN


@pytest.fixture
def measured(suites, model) -> SuitesReport:
    named = [Suite(kind, suites[kind], kind) for kind in KINDS]
    return measure_suites(model, named, SuiteOptions(bootstrap=10))


def grown(measured: SuitesReport, n_rows: int) -> SuitesReport:
    """The suites as if every suite had so many rows."""
    suites = [
        dataclasses.replace(suite, n_rows=n_rows, result=dataclasses.replace(suite.result, n_rows=n_rows))
        for suite in measured.suites
    ]
    return dataclasses.replace(measured, suites=tuple(suites))


def test_published_figures_stand_next_to_ours_if_the_cases_are_the_same(measured) -> None:
    (row,) = [row for row in summarise(grown(measured, 3728)).rows if "Perspective 0.895" in row[-1]]
    assert "not comparable" not in row[-1]
    (row,) = [row for row in summarise(measured).rows if "Perspective 0.895" in row[-1]]
    assert "not comparable" in row[-1]
    assert any("measured on 3,728 rows, here 6" in note for note in summarise(measured).footnotes)


def test_every_published_figure_meets_one_of_ours(measured) -> None:
    measures = {(suite.kind, figure.measure) for suite in measured.suites for figure in suite.result.figures}
    assert {(entry.kind, entry.measure) for entry in PUBLISHED} <= measures
    assert all(entry.source for entry in PUBLISHED)
    shown = format_suites(measured)
    assert all(f"{entry.system} {entry.value}" in shown for entry in PUBLISHED)


def test_the_summary_names_every_suite_but_quotes_no_text(measured, model) -> None:
    shown, page = format_suites(measured), render_page(measured)
    for kind in KINDS:
        assert f"\n{kind}" in shown
        assert f"<h2>{kind}: " in page
    for text in model.read:
        if len(text.split()) > 2:
            assert text not in shown
            assert text not in page
    assert max(map(len, shown.splitlines())) < 260


def test_the_json_holds_all_numbers_and_is_json(measured) -> None:
    content = json.loads(json.dumps(SUITES.to_plain(record_suites(measured)), allow_nan=False))
    assert SUITES.parse(content, "suites.json").suites["hatecheck"].n_measured == 6
    assert set(content["suites"]) == set(KINDS)
    hatecheck = content["suites"]["hatecheck"]
    assert hatecheck["numbers"]["functionalities"]["derog_h"]["hateful"]["n"] == 2
    assert hatecheck["figures"][0]["others"][0]["not_comparable"] == "measured on 3,728 rows, here 6"
    assert list(hatecheck["files"]) == ["test_suite_cases.csv"]
    assert len(content["suites"]["multilingual-hatecheck"]["files"]) == 2
    assert content["thresholds"] == {"insult": 0.5, "toxic": 0.5, "threat": 0.5}


def test_the_page_loads_nothing_and_escapes_names(measured) -> None:
    odd = dataclasses.replace(measured.suites[0], name="<script>alert(1)</script>")
    page = render_page(dataclasses.replace(measured, suites=(odd,)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for word in ("http://", "https://", "src=", "url(", "@import"):
        assert word not in page


@pytest.mark.hostile("HTML: hostile names")
def test_names_stay_names_on_the_page(measured: SuitesReport, attack: Attack) -> None:
    """Whatever suites, groups and models are called: the elements of the page are the same, and no template runs."""
    (suite, *_) = measured.suites

    def page_of(name: str) -> ElementReader:
        table = dataclasses.replace(suite.result.tables[0], title=name, header=(name,), rows=((name,),), note=name)
        figures = tuple(dataclasses.replace(figure, detail=name) for figure in suite.result.figures)
        result = dataclasses.replace(suite.result, tables=(table,), figures=figures, notes=(name,))
        odd = dataclasses.replace(suite, name=name, result=result)
        named = {"model_version": name, "languages": (name,), "thresholds": {name: 0.5}}
        reader = ElementReader()
        reader.feed(render_page(dataclasses.replace(measured, suites=(odd,), **named)))
        return reader

    plain = page_of("plain")
    for name in (*SHOWN, *OBEYED):
        page = page_of(name)
        assert page.elements == plain.elements, ascii(name)
        shown = name.encode(errors="backslashreplace").decode()
        assert page.text.count(shown) >= plain.text.count("plain") > 5 or "\r" in name or "\0" in name, ascii(name)
    attack.tried(len(SHOWN) + len(OBEYED))


class ElementReader(HTMLParser):
    """Elements with the names of their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
