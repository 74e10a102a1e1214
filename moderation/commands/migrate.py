"""`moderation migrate`: from old scores of the Perspective API to thresholds of this model that keep its decisions."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from moderation.artifacts import find_target, sync, to_json_bytes, write_atomically
from moderation.bundles import AUTO
from moderation.categories import find_attributes
from moderation.config import MigrateConfig
from moderation.data.languages import Languages
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.evaluation.probabilities import BoolArray, FloatArray, predict
from moderation.inference.classifier import Classifier
from moderation.inference.routing import Reading
from moderation.links import refuse_links_out
from moderation.locks import claimed
from moderation.migration.attributes import Attribute, match_attributes
from moderation.migration.doubts import find_doubts, find_foreign, find_low
from moderation.migration.matching import Match, compare, match_rate
from moderation.migration.old_scores import OldScores, read_comments, read_old_scores
from moderation.migration.options import MatchOptions
from moderation.migration.page import render_page
from moderation.migration.records import MIGRATION, THRESHOLDS, is_migrated, record_migration, record_thresholds
from moderation.migration.summary import Migration, Together, format_migration
from moderation.scoring.progress import some_at_once
from moderation.tables.reading import read_table


def migrate(config: MigrateConfig) -> int:
    """Score comments, match thresholds, print what changes, and write thresholds, numbers and a page.

    Returns:
        0.

    Raises:
        ModerationError: a table, scores, a bundle or a setting is invalid; then nothing is written.
    """
    with claimed(config.output_dir, "migrate", inside=True, source=config.input_path):
        return _migrate(config)


def _migrate(config: MigrateConfig) -> int:
    names = ("thresholds.json", "migration.json", "report.html")
    thresholds, numbers, page = (config.output_dir / name for name in names)
    _check_targets((thresholds, numbers, page), overwrite=config.overwrite)
    rates = config.flag_rates
    table = config.table
    frame = read_table(config.input_path, delimiter=table.delimiter, quoting=table.quoting, escape=table.escape)
    if rates:
        old = read_comments(frame, config.input_path, table.text_column)
    else:
        old = read_old_scores(frame, config.input_path, table.text_column, config.answers)
    with Classifier.load(config.model or AUTO, backend=config.backend, threads=config.threads) as classifier:
        if rates:
            _check_labels(rates, classifier.labels)
        migration = _match(config, classifier, old, _score(classifier, old.texts), rates)
    texts = dict(zip(old.rows.tolist(), old.texts, strict=True)) if config.show_texts else None
    print(format_migration(migration, texts))
    chosen = to_json_bytes(THRESHOLDS.to_plain(record_thresholds(migration)))
    about = replace(record_migration(migration), thresholds_sha256=hashlib.sha256(chosen).hexdigest())
    _write_together(
        {
            thresholds: chosen,
            numbers: to_json_bytes(MIGRATION.to_plain(about)),
            page: render_page(migration).encode(),
        }
    )
    print(f"\n{thresholds}\n{numbers}\n{page}\n\nmoderation serve --thresholds {thresholds}")
    return 0


def _match(
    config: MigrateConfig,
    classifier: Classifier,
    old: OldScores,
    reading: Reading,
    rates: Mapping[str, float],
) -> Migration:
    """Match attributes, or the requested shares, and combine the results."""
    probabilities = reading.probabilities
    labels, matching = classifier.labels, config.matching
    attributes: Sequence[Attribute] = ()
    by_rate: dict[str, Match] = {}
    if rates:
        by_rate = _match_rates(probabilities, labels, rates, matching)
    else:
        known = find_attributes(labels, classifier.bundle.mapping)
        attributes = match_attributes(old, probabilities, labels, known, matching)
    matched = {one.label for one in attributes} | by_rate.keys()
    unmatched = [label for label in labels if label not in matched]
    # Where languages have thresholds of their own, those of labels without old scores are not written at all.
    left = unmatched if config.others == "bundle" and classifier.router is not None else []
    kept = classifier.thresholds_by_label
    others = {label: 1.0 if config.others == "off" else kept[label] for label in unmatched if label not in left}
    chosen = {one.label: one.taken.threshold for one in attributes} | {
        label: match.threshold for label, match in by_rate.items()
    }
    cuts = np.broadcast_to(classifier.thresholds_of(reading.routes), probabilities.shape).copy()
    for label, threshold in (others | chosen).items():
        cuts[:, labels.index(label)] = threshold
    return Migration(
        source=str(config.input_path),
        model_version=classifier.model_version,
        calibrated=any(model.bundle.is_calibrated for model in classifier.models),
        attributes=attributes,
        rates=by_rate,
        together=_together(old, np.any(predict(probabilities, cuts), axis=1), attributes),
        others=others,
        left=left,
        warnings=[
            *_find_foreign(classifier, old.texts, matching.seed),
            *find_doubts(old, attributes, by_rate),
            *find_low(chosen, classifier.bundle.records.get("curves")),
        ],
    )


def _match_rates(
    probabilities: FloatArray, labels: Sequence[str], rates: Mapping[str, float], matching: MatchOptions
) -> dict[str, Match]:
    """The threshold of each label that has a share to flag, given by its name or for all."""
    nothing = np.zeros(len(probabilities), dtype=np.bool_)
    shares = {label: rates.get(label, rates.get("")) for label in labels}
    return {
        label: match_rate(
            probabilities[:, labels.index(label)], nothing, share=share, samples=matching.bootstrap, seed=matching.seed
        )
        for label, share in shares.items()
        if share is not None
    }


def _together(old: OldScores, now: BoolArray, attributes: Sequence[Attribute]) -> Together:
    """Compare all labels, at the thresholds that will be written, with the matched attributes."""
    if not attributes:
        return Together(len(now), int(now.sum()))
    scores = [old.scores[one.name] for one in attributes]
    here = ~np.isnan(scores).all(axis=0)
    before = np.any([found >= one.old_threshold for found, one in zip(scores, attributes, strict=True)], axis=0)
    agreement, kappa = compare(now[here], before[here])  # NaN reaches no threshold
    return Together(int(here.sum()), int(now[here].sum()), int(before[here].sum()), agreement, kappa)


def _find_foreign(classifier: Classifier, texts: Sequence[str], seed: int) -> list[str]:
    try:
        languages = Languages("Checking the languages of the comments", "migrate", classifier.normalise)
    except MissingExtraError as error:
        return [f"it was not checked whether the model reads the language of the comments. {error}"]
    return find_foreign(texts, languages, classifier.languages, seed)


def _score(classifier: Classifier, texts: Sequence[str]) -> Reading:
    parts = [classifier.read(part) for part in some_at_once(texts, "Scoring")]
    found = np.concatenate([part.probabilities for part in parts])
    n_wrong = int(np.isnan(found).any(axis=1).sum())
    if n_wrong:
        raise ArtifactError(
            f"{classifier.model_version}: its answer to {n_wrong:,} of {len(texts):,} comments is not a number. Use "
            "another model, or leave those comments out: moderation score lists them."
        )
    n_windows = np.concatenate([part.n_windows for part in parts])
    return Reading(found, n_windows, [route for part in parts for route in part.routes])


def _check_labels(rates: Mapping[str, float], labels: Sequence[str]) -> None:
    unknown = [label for label in rates if label and label not in labels]
    if unknown:
        raise ConfigError(f"--flag-rate: {', '.join(unknown)}: not a label of this model; it has {', '.join(labels)}.")


def _write_together(contents: Mapping[Path, bytes]) -> None:
    """Write all files or none, even if the disk fills up: no file gets its name before all are on the disk.

    The first one gets its name last, so a kill in between leaves the old one, whose SHA-256 does not match.
    """
    with ExitStack() as writing:
        for path, content in contents.items():
            temporary = writing.enter_context(write_atomically(path))
            temporary.write_bytes(content)
            sync(temporary)


def _check_targets(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to replace existing files without --overwrite, or files that do not belong to an earlier migration."""
    for path in paths:
        refuse_links_out(path)
    there = [path for path in map(find_target, paths) if path.exists()]
    if there and not overwrite:
        raise ArtifactError(
            f"{', '.join(map(str, there))}: already exists. Choose another --output-dir, or replace an earlier "
            "migration with --overwrite."
        )
    others = [str(path) for path in there if not is_migrated(path)]
    if others:
        raise ArtifactError(
            f"{', '.join(others)}: not written by an earlier migration; --overwrite replaces only files of an "
            "earlier migration. Choose another --output-dir."
        )
