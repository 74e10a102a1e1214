"""How the logits of a text become decisions: calibrators and thresholds, in general and for single languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from moderation.calibrators import Calibrator
from moderation.language_codes import base_language


@dataclass(frozen=True)
class LanguageTuning:
    """Calibrators and thresholds.

    Args:
        calibrators: One per label, in label order; applied to logits before the sigmoid.
        thresholds: Likewise, in [0, 1].
    """

    calibrators: tuple[Calibrator, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Tunings:
    """The tuning of texts in general, and those of languages with enough examples for their own.

    Args:
        general: For languages without their own, and texts whose language is unclear.
        by_language: Code as from `base_language` -> its tuning, which is complete: a label with too few examples in the
            language has the general calibrator and threshold.
    """

    general: LanguageTuning
    by_language: Mapping[str, LanguageTuning] = field(default_factory=dict)

    def of(self, language: str) -> LanguageTuning:
        """The tuning of a language.

        >>> turkish = LanguageTuning((Calibrator(),), (0.3,))
        >>> tunings = Tunings(LanguageTuning((Calibrator(),), (0.5,)), {"tr": turkish})
        >>> [tunings.of(code).thresholds for code in ("tr", "tr-TR", "de", "und")]
        [(0.3,), (0.3,), (0.5,), (0.5,)]
        """
        return self.by_language.get(base_language(language), self.general)

    def with_thresholds(
        self, labels: Sequence[str], chosen: Mapping[str, float], own: Mapping[str, Mapping[str, float]]
    ) -> "Tunings":
        """The same with the thresholds of some labels set.

        Args:
            labels: Ordered labels.
            chosen: Label -> threshold in every language.
            own: Language -> label -> threshold in that language, instead.
        """

        def change(tuning: LanguageTuning, values: Mapping[str, float]) -> LanguageTuning:
            pairs = zip(labels, tuning.thresholds, strict=True)
            return replace(tuning, thresholds=tuple(values.get(label, value) for label, value in pairs))

        codes = (*self.by_language, *(code for code in own if code not in self.by_language))
        by_language = {code: change(self.of(code), {**chosen, **own.get(code, {})}) for code in codes}
        return Tunings(change(self.general, chosen), by_language)

    def thresholds_by_language(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Language -> label -> threshold."""
        return {code: dict(zip(labels, own.thresholds, strict=True)) for code, own in self.by_language.items()}

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibrator changes some label's probabilities."""
        tunings = (self.general, *self.by_language.values())
        return any(calibrator.method != "none" for tuning in tunings for calibrator in tuning.calibrators)
