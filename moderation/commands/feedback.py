"""`moderation feedback`: moderators' decisions, from the server's database to a table for `moderation train`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa

from moderation.artifacts import resolve_target, write_atomically
from moderation.config import FeedbackConfig
from moderation.errors import ArtifactError, DataError
from moderation.labels import JIGSAW_LABELS, as_labels
from moderation.locks import claimed
from moderation.scoring.writers import OutputFormat, open_output, output_format
from moderation.serving.feedback.decisions import StoredDecision
from moderation.serving.feedback.store import FeedbackStore
from moderation.tables.options import TEXT_COLUMN

CUT = 0.5
"""From this score on, a decision means that the label applies."""

_MOST_LABELS = 1_000  # as of a bundle
_ROWS_AT_ONCE = 1000


@dataclass
class _Judgement:
    """The newest decisions about one text, the decision that stored the text itself, and whether all agree."""

    scores: dict[str, float] = field(default_factory=dict)
    text_id: int | None = None
    is_disputed: bool = False


def feedback(config: FeedbackConfig) -> int:
    """Write every text that moderators decided about, with a column of 0 and 1 for each label.

    Each text is one row, however many decisions there are about it: for each label the newest counts, and texts with
    conflicting decisions are counted. A decision that was sent again, by the same community with the same client token,
    replaces the earlier one. Texts that were not stored, and texts without a decision about a label, are left out and
    counted.

    Returns:
        0.

    Raises:
        ModerationError: there is no such database or label, nothing to write, or the file cannot be written.
    """
    output = Path(config.output)
    form = output_format(output, csv_safe=config.csv_safe)
    output = resolve_target(output)  # a link may point elsewhere later
    with claimed(output, "feedback"):
        return _export(output, form, config)


def _export(output: Path, form: OutputFormat, config: FeedbackConfig) -> int:
    if output.exists() and not config.overwrite:
        raise ArtifactError(f"{output}: already exists. Choose another name, or replace it with --overwrite.")
    with closing(FeedbackStore(config.feedback_url)) as store:
        unreadable: list[int] = []
        judgements = _collect(store.decisions(unreadable))
        labels = _choose_labels(judgements, config.label_columns, store.name)
        complete = [found for found in judgements if found.text_id is not None and found.scores.keys() >= set(labels)]
        summary = _summarise(judgements, labels, len(complete)) + _report_unreadable(unreadable)
        if not complete:
            raise DataError(f"{store.name}: nothing to export.\n{summary}\nChoose labels with --label-columns.")
        schema = pa.schema([(TEXT_COLUMN, pa.string()), *((label, pa.int8()) for label in labels)])
        with (
            write_atomically(output) as temporary,
            temporary.open("wb") as file,
            open_output(file, form, schema) as write,
        ):
            for batch in _batches(store, complete, schema, labels):
                write(batch)
    print(f"{summary}\n{output}")
    return 0


def _collect(decisions: Iterable[StoredDecision]) -> list[_Judgement]:
    """The decisions about each text, in the order in which the texts first appeared."""
    found: dict[str, _Judgement] = {}
    standing: dict[object, StoredDecision] = {}
    for decision in decisions:
        judgement = found.setdefault(decision.text_sha256, _Judgement())
        if decision.has_text:
            judgement.text_id = decision.id
        sender = (decision.community_id, decision.client_token, decision.text_sha256)
        key: object = decision.id if decision.client_token is None else sender
        standing.pop(key, None)  # sent again: it counts as new
        standing[key] = decision
    for decision in standing.values():
        judgement = found[decision.text_sha256]
        judgement.is_disputed = judgement.is_disputed or any(
            (score >= CUT) != (judgement.scores.get(label, score) >= CUT)
            for label, score in decision.label_scores.items()
        )
        judgement.scores |= decision.label_scores
    return list(found.values())


def _choose_labels(judgements: Sequence[_Judgement], asked: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Labels to write: the requested ones, otherwise all that have decisions, Jigsaw's first and in their order.

    Raises:
        DataError: there is no decision about a requested label, or about any.
    """
    known = {label: None for judgement in judgements for label in judgement.scores}
    if missing := set(asked or ()) - known.keys():
        raise DataError(
            f"{where}: no decision about {', '.join(sorted(missing))} (--label-columns). There are decisions about: "
            f"{', '.join(known) or 'nothing'}."
        )
    if not known:
        raise DataError(f"{where}: no decisions are stored yet. Clients send them to comments:suggestscore.")
    if not asked and len(known) > _MOST_LABELS:
        raise DataError(
            f"{where}: decisions about {len(known):,} different labels; expected {_MOST_LABELS:,} at most. Choose some "
            "with --label-columns."
        )
    if TEXT_COLUMN in (asked or known):
        raise DataError(
            f"{where}: a label has the name of the text column, {TEXT_COLUMN}. Choose others with --label-columns."
        )
    first = [label for label in JIGSAW_LABELS if label in known]
    return as_labels(asked or [*first, *(label for label in known if label not in first)])


def _summarise(judgements: Sequence[_Judgement], labels: Sequence[str], n_rows: int) -> str:
    said = Counter(label for judgement in judgements for label in judgement.scores if judgement.text_id is not None)
    n_without_text = sum(found.text_id is None for found in judgements)
    n_incomplete = len(judgements) - n_without_text - n_rows
    lines = [
        f"{n_rows:,} texts with {', '.join(labels)}; left out: {n_without_text:,} whose text was not stored, "
        f"{n_incomplete:,} without a decision about one of these labels.",
        *(f"{label:>24} {said[label]:>9,} texts" for label in said),
    ]
    if n_disputed := sum(found.is_disputed for found in judgements):
        lines.append(f"conflicts: {n_disputed:,} texts with conflicting decisions; for each label the newest counts.")
    return "\n".join(lines)


def _report_unreadable(unreadable: Sequence[int]) -> str:
    """A line about rows that are not decisions; empty if there are none."""
    if not unreadable:
        return ""
    ids = ", ".join(map(str, unreadable[:10])) + (", ..." if len(unreadable) > 10 else "")
    return f"\nleft out: {len(unreadable):,} rows that the server did not write in this form (id {ids})."


def _batches(
    store: FeedbackStore, complete: Sequence[_Judgement], schema: pa.Schema, labels: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    scores = {found.text_id: found.scores for found in complete if found.text_id is not None}
    texts = store.texts(list(scores))
    while some := list(islice(texts, _ROWS_AT_ONCE)):
        columns = [[text for _, text in some]]
        targets = [[int(scores[id][label] >= CUT) for id, _ in some] for label in labels]
        yield pa.RecordBatch.from_arrays(
            [pa.array(column, kind.type) for column, kind in zip([*columns, *targets], schema, strict=True)],
            schema=schema,
        )
