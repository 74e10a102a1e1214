"""Makes a bundle from a trained model: each form is written, compared with torch, and kept if within its limits."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from moderation.artifacts import read_bytes, write_atomically
from moderation.bundles import CARD, TOKENIZER, TRAINING_TEXTS
from moderation.data.splits import Splits
from moderation.data.training_texts import sketch_texts
from moderation.errors import ArtifactError, ConfigError
from moderation.export.card import write_card
from moderation.export.drafts import Draft
from moderation.export.forms import SERVER_WRITERS, WRITERS, Groups, Trained, write_form
from moderation.export.huggingface import write_huggingface
from moderation.export.mixed_precision import layer_groups, leave_until_passed, rank_groups
from moderation.export.onnx_graph import write_onnx
from moderation.export.options import ExportOptions
from moderation.export.parity import ParityRow, format_parity, write_odd_answers
from moderation.export.referee import Referee, gather_texts
from moderation.export.staging import staged_folder
from moderation.forms import FORMS
from moderation.inference.windows import Windows
from moderation.manifests import MANIFEST, FormFacts, Manifest

logger = logging.getLogger(__name__)

_MOST_ABOUT = 1 << 20  # bytes of the text that goes into the card
_N_CALIBRATION = 100  # windows used to set scales and rank layers


@dataclass(frozen=True)
class Source:
    """What a bundle is made from.

    Args:
        model: On the CPU, float32.
        tokenizer: A fast one.
        splits: The run's splits.
        text_column: Column of the texts.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    splits: Splits
    text_column: str


@dataclass(frozen=True)
class Written:
    """The result of an export.

    Args:
        rows: How each form compares with torch, including forms that were not kept.
        failed: Forms outside their limits that were not kept.
    """

    rows: tuple[ParityRow, ...]
    failed: tuple[str, ...]


def write_bundle(to: Path, manifest: Manifest, source: Source, options: ExportOptions) -> Written:
    """Write the requested forms, compare each with torch on real and odd texts, and keep those within their limits.

    Args:
        to: Folder of the bundle; it appears when it is complete.
        manifest: Everything that is known before the first form is written.
        source: What to write.
        options: Which forms, and how they are compared.

    Raises:
        ModerationError: the folder cannot be written, or no bundle is left that may replace the existing one.
    """
    with staged_folder(to, overwrite=options.overwrite) as folder, tempfile.TemporaryDirectory() as scratch:
        weights = write_huggingface(
            folder, source.model, source.tokenizer, manifest.labels, max_length=manifest.window_length
        )
        draft = Draft(folder, replace(manifest, forms={"hf": FormFacts(tuple(weights))}))
        _write_sketch(folder, source)
        texts = gather_texts(source.splits, source.text_column, options.parity_texts)
        logger.info("Score %s texts with torch, as reference for the forms ...", f"{len(texts.all):,}")
        referee = Referee(draft, texts, source.model, options.threads)
        draft.rows["hf"] = referee.judge_huggingface()
        trained = _prepare(Path(scratch), draft, source, options)
        _write_forms(draft, trained, referee, options)
        failed = _drop_failed(draft, options)
        _refuse_worse(to, draft, failed, options)
        answers = {form: array for form, array in referee.odd_answers.items() if form in {"hf", *draft.manifest.forms}}
        write_odd_answers(folder, manifest.labels, answers)
        _finish(draft, options)
    return Written(tuple(draft.rows.values()), tuple(failed))


def read_about(options: ExportOptions) -> str:
    """The author's text for the card; empty if there is none.

    Raises:
        ConfigError: the file cannot be read.
    """
    if options.about is None:
        return ""
    try:
        return read_bytes(options.about, _MOST_ABOUT).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise ConfigError(f"--about {options.about}: cannot be read ({kind}); expected Markdown.") from None


def _write_sketch(folder: Path, source: Source) -> None:
    """Record which texts were used for training and tuning, so that an evaluation on them can report it."""
    splits = source.splits
    n_plain = len(splits.frames["train"]) - splits.added.get("disguised", 0)
    frames = splits.frames["train"].iloc[:n_plain], splits.frames["val"]
    sketch = sketch_texts(text for frame in frames for text in frame[source.text_column])
    with write_atomically(folder / TRAINING_TEXTS) as temporary, temporary.open("wb") as file:
        np.save(file, sketch, allow_pickle=False)


def _prepare(scratch: Path, draft: Draft, source: Source, options: ExportOptions) -> Trained:
    """The ONNX graph from which other forms are made, and windows of train texts to set scales."""
    graph = scratch / "model.onnx"
    if any(FORMS[form].from_graph for form in options.formats):
        logger.info("Trace the model ...")
        write_onnx(graph, source.model)
    manifest = draft.manifest
    cutter = Windows(draft.folder / TOKENIZER, length=manifest.window_length, overlap=manifest.window_overlap)
    texts = source.splits.frames["train"][source.text_column]
    places = np.linspace(0, len(texts) - 1, min(_N_CALIBRATION, len(texts))).astype(int)
    windows = [np.array(cutter.cut(text)[0].ids, dtype=np.int64) for text in texts.iloc[places]]
    return Trained(source.model, graph, windows)


def _write_forms(draft: Draft, trained: Trained, referee: Referee, options: ExportOptions) -> None:
    """Write each form, and compare it with torch."""
    ranked: list[str] = []
    for name in options.formats:
        if name not in WRITERS:
            continue
        logger.info("Write %s ...", name)
        facts = FormFacts(tuple(write_form(draft.folder, name, trained)))
        draft.add(name, facts)
        if FORMS[name].kind == "weights":
            continue
        logger.info("Compare %s with torch on %s texts ...", name, f"{len(referee.texts.all):,}")
        draft.rows[name] = referee.judge(name)
        if FORMS[name].kind == "int8" and not draft.rows[name].passed:
            groups = layer_groups(trained.graph)
            ranked = ranked or rank_groups(trained.graph, groups, trained.windows)
            _repair(draft, name, trained, referee, WRITERS[name].can_keep(trained.graph, groups), ranked)


def _repair(draft: Draft, name: str, trained: Trained, referee: Referee, groups: Groups, ranked: Sequence[str]) -> None:
    """Leave the costliest layers of an int8 form in float until it passes or no layer is left."""

    def attempt(nodes: list[str]) -> ParityRow:
        write_form(draft.folder, name, trained, nodes)
        return referee.judge(name)

    left, draft.rows[name] = leave_until_passed(groups, [group for group in ranked if group in groups], attempt)
    draft.add(name, replace(draft.manifest.forms[name], left_in_float=tuple(left)))


def _drop_failed(draft: Draft, options: ExportOptions) -> list[str]:
    """Remove the forms that failed and are not allowed, and the plain folder's weights if not requested."""
    failed = []
    for name, row in draft.rows.items():
        if not row.passed and name in options.allow:
            draft.rows[name] = replace(row, allowed=True)
        elif not row.passed:
            failed.append(name)
    for name in {*failed, *({"hf"} - set(options.formats))} & draft.manifest.forms.keys():
        draft.drop(name)
    return failed


def _refuse_worse(to: Path, draft: Draft, failed: list[str], options: ExportOptions) -> None:
    """Refuse to write a bundle that nothing can load, or to replace a bundle when a form failed.

    Raises:
        ArtifactError: with the parity table, since no bundle will contain it.
    """
    replaces = options.overwrite and (to / MANIFEST).is_file()
    if any(FORMS[form].backend for form in draft.manifest.forms) and not (failed and replaces):
        return
    raise ArtifactError(
        f"{to}: not written; what was there before is unchanged.\n\n{format_parity([*draft.rows.values()])}\n\n"
        f"Outside their limits: {', '.join(failed)}. To keep them anyway: --allow {','.join(failed)}"
    )


def _finish(draft: Draft, options: ExportOptions) -> None:
    """Write the card and the manifest; then the forms for servers, which are made from a complete bundle."""
    bundle = draft.seal()
    with write_atomically(draft.folder / CARD) as temporary:
        card = write_card(bundle, about=read_about(options), licence=options.licence)
        temporary.write_text(card, encoding="utf-8", errors="backslashreplace")  # a table's name may not be UTF-8
    draft.seal()
    for name, write in SERVER_WRITERS.items():
        if name in options.formats:
            draft.add(name, FormFacts(tuple(write(draft.folder, bundle.name))))
    draft.seal()
