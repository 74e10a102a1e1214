"""Texts -> results, using only numpy. All scoring happens here: rows of a file, lines of a pipe, one text.

Rows are independent of each other, so a table gives the same results however it is cut.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from moderation.evaluation.probabilities import predict
from moderation.inference.routing import Reading, Route

NO_TEXT = "no text"
NO_STRING = "the text is not a string"
NO_UNICODE = "the text is not valid Unicode"
NO_NUMBER = "the model's answer is not a number"

FLAGGED = "flagged"
PIPE_COLUMN = "text"  # for lines of a pipe

FloatArray = npt.NDArray[np.float32]


class ReadsTexts(Protocol):
    """What scoring needs of a classifier; `moderation.Classifier` has it."""

    labels: tuple[str, ...]
    model_version: str

    @property
    def recogniser(self) -> "NamesLanguages | None":
        """Recognises the language of each text before it is read; None: the classifier does not look at languages."""

    def read(self, texts: Sequence[str]) -> Reading:
        """Probabilities, numbers of windows and routes of texts."""

    def thresholds_of(self, routes: Sequence[Route]) -> FloatArray:
        """Thresholds: float32 `(n_labels,)`, or `(n_texts, n_labels)`."""

    def version_of(self, route: Route) -> str:
        """Bundle and backend that read a text."""


class NamesLanguages(Protocol):
    """Detects languages, like `moderation.data.languages.Languages`."""

    def detect(self, text: str) -> str:
        """ISO 639-1 code, `und` if the language is unclear."""


@dataclass(frozen=True)
class Results:
    """Results of some rows; a text that is in several of them was computed once.

    Args:
        labels: Order of the columns.
        places: For each row the index of its text in the following arrays; None: the row has no results.
        probabilities: float32 `(n_texts, n_labels)`.
        flags: bool `(n_texts, n_labels)`.
        n_windows: int64 `(n_texts,)`.
        languages: For each text its language code; None: not detected.
        model_versions: For each text the bundle and backend that read it.
        errors: For each row its error; None: no error.
    """

    labels: tuple[str, ...]
    places: list[int | None]
    probabilities: FloatArray
    flags: npt.NDArray[np.bool_]
    n_windows: npt.NDArray[np.int64]
    languages: list[str | None]
    model_versions: list[str]
    errors: list[str | None]

    @property
    def flagged(self) -> list[list[str]]:
        """For each text the names of its flagged labels."""
        return [[label for label, flag in zip(self.labels, row, strict=True) if flag] for row in self.flags.tolist()]

    def to_json_lines(self, texts: Sequence[str | None], text_column: str, *, flag_columns: bool = False) -> bytes:
        """Rows as JSON lines, the text before its results.

        Args:
            texts: One per row.
            text_column: Their name.
            flag_columns: Add `flag_<label>` for each label.
        """
        names = [json.dumps(name, ensure_ascii=False) for name in result_names(self.labels, flag_columns=flag_columns)]
        nothing = ["null"] * (len(names) - 1)
        cells = self._json_cells(flag_columns)
        key = json.dumps(text_column, ensure_ascii=False)
        lines = []
        for text, place, error in zip(texts, self.places, self.errors, strict=True):
            values = [*(nothing if place is None else cells[place]), json.dumps(error, ensure_ascii=False)]
            found = ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
            lines.append(f"{{{key}: {json.dumps(text, ensure_ascii=False)}, {found}}}\n")
        return "".join(lines).encode("utf-8")

    def _json_cells(self, flag_columns: bool) -> list[list[str]]:
        """For each text its results except the error, as JSON."""
        versions = [json.dumps(version, ensure_ascii=False) for version in self.model_versions]
        columns = (self.probabilities, self.flagged, self.flags.tolist(), self.n_windows, self.languages, versions)
        rows = zip(*columns, strict=True)
        return [
            [
                *(number_text(value) for value in probabilities),
                json.dumps(flagged, ensure_ascii=False),
                *(json.dumps(flag) for flag in (flags if flag_columns else ())),
                str(int(count)),
                json.dumps(language),
                version,
            ]
            for probabilities, flagged, flags, count, language, version in rows
        ]


def score_texts(
    classifier: ReadsTexts,
    texts: Sequence[str | None],
    problems: Sequence[str | None],
    languages: NamesLanguages | None = None,
) -> Results:
    """Score texts. Equal ones are computed once; a row without a usable text gets an error and no results.

    Args:
        classifier: The classifier; its results depend only on the text, and so do those of this function.
        texts: One per row; None: no text.
        problems: A known problem with each row, which is then not scored; None: no problem.
        languages: Detects the language of each text, if the classifier does not; None: not detected.
    """
    errors = [problem or find_problem(text) for text, problem in zip(texts, problems, strict=True)]
    unique: dict[str, int] = {}
    places = [
        unique.setdefault(text, len(unique)) if text is not None and error is None else None
        for text, error in zip(texts, errors, strict=True)
    ]
    reading = _ask(classifier, list(unique))
    probabilities = reading.probabilities
    sound: list[bool] = np.isfinite(probabilities).min(axis=1, initial=True).tolist()
    return Results(
        labels=classifier.labels,
        places=[place if place is not None and sound[place] else None for place in places],
        probabilities=probabilities,
        flags=predict(probabilities, classifier.thresholds_of(reading.routes)),
        n_windows=reading.n_windows,
        languages=_tell_languages(classifier, reading, languages, list(unique)),
        model_versions=[classifier.version_of(route) for route in reading.routes],
        errors=[
            NO_NUMBER if place is not None and not sound[place] else error
            for place, error in zip(places, errors, strict=True)
        ],
    )


def find_problem(text: str | None) -> str | None:
    """What is wrong with a text; None: it can be scored.

    >>> find_problem("hello"), find_problem(" "), find_problem(None)
    (None, 'no text', 'no text')
    """
    return NO_TEXT if text is None or not text.strip() else None


def result_names(labels: Sequence[str], *, flag_columns: bool = False) -> list[str]:
    """Names of the columns that scoring adds, in their order.

    >>> result_names(["toxic"])
    ['p_toxic', 'flagged', 'n_windows', 'detected_language', 'model_version', 'error']
    """
    flags = [f"flag_{label}" for label in labels] if flag_columns else []
    names = [*(f"p_{label}" for label in labels), FLAGGED, *flags]
    return [*names, "n_windows", "detected_language", "model_version", "error"]


def join_flagged(flagged: Sequence[str]) -> str:
    r"""Names of labels as one cell: joined by commas; a name that contains a comma is quoted, as in CSV.

    So `next(csv.reader([cell]))` returns them, and plain names need no quotes.

    >>> join_flagged(["toxic", "insult"]), join_flagged(["hate, open", "spam"]), join_flagged([])
    ('toxic,insult', '"hate, open",spam', '')
    """
    if not flagged:
        return ""
    line = io.StringIO()
    csv.writer(line).writerow(flagged)
    return line.getvalue().removesuffix("\r\n")


def number_text(value: np.float32) -> str:
    """The shortest decimal that equals this float32 number, as JSON; NaN and infinity, which JSON lacks, are null.

    >>> number_text(np.float32(0.1)), number_text(np.float32(1e-5)), number_text(np.float32(3e-20))
    ('0.1', '0.00001', '3e-20')
    """
    if not np.isfinite(value):
        return "null"
    return np.format_float_positional(value, trim="0") if 1e-6 <= abs(value) < 1e16 else str(value)


def _tell_languages(
    classifier: ReadsTexts, reading: Reading, languages: NamesLanguages | None, texts: Sequence[str]
) -> list[str | None]:
    """The language of each text; nothing else in `moderation score` detects it, except the classifier itself."""
    if classifier.recogniser is not None:
        return [route.language for route in reading.routes]
    return [languages.detect(text) if languages is not None else None for text in texts]


def _ask(classifier: ReadsTexts, texts: list[str]) -> Reading:
    if not texts:
        return Reading(np.empty((0, len(classifier.labels)), dtype=np.float32), np.empty(0, dtype=np.int64), ())
    return classifier.read(texts)
