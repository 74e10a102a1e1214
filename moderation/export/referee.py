"""The texts on which forms are compared, and the referee that lets each form answer them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from transformers import PreTrainedModel

from moderation.data.splits import Splits, languages_of
from moderation.evaluation.probabilities import calibrate_texts, sigmoid
from moderation.export.drafts import Draft
from moderation.export.odd_texts import ODD_TEXTS
from moderation.export.parity import ParityRow, compare
from moderation.forms import FORMS
from moderation.inference.backends import without_progress_bars
from moderation.inference.classifier import Classifier
from moderation.pretrained import read_pipeline

FloatArray = npt.NDArray[np.float32]

_N_POSITIVES = 100  # of each label, if the val split has that many: ROC-AUC does not depend on their share
_N_REPEATED = 64  # real texts that the plain Hugging Face folder answers in three ways


@dataclass(frozen=True)
class ParityTexts:
    """Texts to compare on.

    Args:
        real: Texts from the run's data.
        targets: Their targets, 0 or 1, NaN where unknown, `(n_real, n_labels)`.
        languages: Their languages; None if the table has no such column.
    """

    real: list[str]
    targets: npt.NDArray[np.float32]
    languages: list[str] | None

    @property
    def all(self) -> list[str]:
        """The real texts, then the odd ones."""
        return [*self.real, *ODD_TEXTS.values()]


def gather_texts(splits: Splits, text_column: str, n_texts: int) -> ParityTexts:
    """Take texts of the val split, evenly spaced if it is larger, filled up from train if it is smaller.

    Positives of rare labels are added; otherwise ROC-AUC would depend on a handful of texts.

    Args:
        splits: Of the run.
        text_column: Column of the texts.
        n_texts: How many, if there are that many.
    """
    parts: list[pd.DataFrame] = []
    for split in ("val", "train"):
        missing = n_texts - sum(len(part) for part in parts)
        frame = splits.frames[split]
        if missing > 0:
            parts.append(frame.iloc[np.linspace(0, len(frame) - 1, min(missing, len(frame))).astype(int)])
    parts += [_positives(splits.frames["val"], label, pd.concat(parts)) for label in splits.labels]
    frame = pd.concat(parts).drop_duplicates(text_column, ignore_index=True)
    return ParityTexts(
        real=frame[text_column].astype(str).tolist(),
        targets=frame[list(splits.labels)].to_numpy(dtype=np.float32),
        languages=languages_of(frame),
    )


def _positives(frame: pd.DataFrame, label: str, taken: pd.DataFrame) -> pd.DataFrame:
    """As many further positives of a label as are needed to reach the wanted number, if there are that many."""
    missing = max(0, _N_POSITIVES - int((taken[label] == 1).sum()))
    return frame[(frame[label] == 1) & ~frame.index.isin(taken.index)].head(missing)


class Referee:
    """Lets each form of a bundle under construction answer the same texts.

    Args:
        draft: The bundle, with the plain Hugging Face folder in it.
        texts: The texts to compare on.
        model: The trained model.
        threads: Processor threads; None: all.

    Attributes:
        odd_answers: Form -> its probabilities for the odd texts.
    """

    def __init__(self, draft: Draft, texts: ParityTexts, model: PreTrainedModel, threads: int | None) -> None:
        self.draft, self.texts, self.model, self.threads = draft, texts, model, threads
        self.odd_answers: dict[str, FloatArray] = {}
        with self._load("hf") as classifier:
            reading = classifier.read(texts.all)
            self._languages = [route.language for route in reading.routes]
            self._thresholds = classifier.thresholds_of(reading.routes)
        self.reference = self._keep("hf", reading.probabilities)

    def judge(self, form: str) -> ParityRow:
        """The parity row of a form that was just written."""
        return self._compare(form, self._answer(form))

    def judge_huggingface(self) -> ParityRow:
        """The parity row of the plain folder: loaded again, it must answer like the trained model and the pipeline.

        The trained model and the pipeline answer the odd texts and some real texts of one window each. The model's
        logits are calibrated and compared with the classifier; the pipeline does not calibrate, and is compared with
        their sigmoid. If they differ, the row has the larger difference.
        """
        row = self._compare("hf", self.reference)
        n_real = len(self.texts.real)
        places = [*range(min(_N_REPEATED, n_real)), *range(n_real, n_real + len(ODD_TEXTS))]
        texts = [self.texts.all[place] for place in places]
        with self._load("hf") as classifier:
            windows = [classifier.windows(text) for text in texts]
        alone = [place for place, of_text in enumerate(windows) if len(of_text) == 1]
        expected = self.reference[[places[place] for place in alone]]
        logits = self._from_memory([windows[place][0].ids for place in alone])
        piped = self._from_pipeline([texts[place] for place in alone])
        languages = [self._languages[places[place]] for place in alone]
        calibrated = calibrate_texts(logits, self.draft.manifest.tunings, languages)
        differences = (calibrated - expected, piped - sigmoid(logits))
        worst = max(float(np.abs(difference).max(initial=0)) for difference in differences)
        passed = row.passed and worst <= row.limits["max_difference"]
        return replace(row, max_difference=max(row.max_difference, worst), passed=passed)

    def _load(self, form: str) -> Classifier:
        self.draft.seal()
        return Classifier.load(
            self.draft.folder, backend=str(FORMS[form].backend), threads=self.threads, check_hashes=False
        )

    def _answer(self, form: str) -> FloatArray:
        with self._load(form) as classifier:
            return self._keep(form, classifier.probabilities(self.texts.all))

    def _keep(self, form: str, answers: FloatArray) -> FloatArray:
        self.odd_answers[form] = answers[len(self.texts.real) :]
        return answers

    def _compare(self, form: str, found: FloatArray) -> ParityRow:
        return compare(
            form,
            found,
            self.reference,
            self.texts.targets,
            self._thresholds,
            self.draft.manifest.labels,
            self.texts.languages,
        )

    def _from_memory(self, windows: Sequence[Sequence[int]]) -> FloatArray:
        """Logits of the trained model in memory."""
        model: Any = self.model
        with torch.inference_mode():
            logits = [model(input_ids=torch.tensor([list(ids)])).logits[0].numpy() for ids in windows]
        return np.array(logits, dtype=np.float32)

    def _from_pipeline(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities that the pipeline of transformers gives, in label order."""
        with without_progress_bars():
            pipe = read_pipeline(self.draft.folder)
        labels = self.draft.manifest.labels
        answers = [pipe(text, top_k=None, function_to_apply="sigmoid") for text in texts]
        of_text = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
        return np.array([[scores[label] for label in labels] for scores in of_text], dtype=np.float32)
