"""Which languages analyze answers in: those that the model reads and, if set so, all others."""

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from moderation.data.languages import Languages
from moderation.language_codes import language_parts, same_language
from moderation.serving.dialects.perspective.models import PerspectiveProblem, show_name
from moderation.serving.metrics import Metrics

MODEL_LANGUAGE = "X-Model-Language"
"""A header: the languages that the model reads, sent when it scored a text in none of them."""

OTHER = "other"
"""Replaces an unknown language code in the metrics: clients could invent any number of them."""

_TAG = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")
_NAMES = """aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee
el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv
ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl
nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta
te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"""
ISO_639_1 = frozenset(_NAMES.split())

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextLanguage:
    """The language of a text that may be scored.

    Args:
        named: For the answer: the requested languages, else the one of the text.
        detected: Language that the text seems to be in.
        label: For the metrics, one of a bounded number.
        foreign_to: Languages of the model, if the text is in none of them.
    """

    named: list[str]
    detected: str
    label: str
    foreign_to: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        return {} if self.foreign_to is None else {MODEL_LANGUAGE: self.foreign_to}


class LanguageRule:
    """Decides whether a text is scored, by the languages that a request names, else by the one that is detected.

    Args:
        languages: Detects them.
        known: Languages that the model reads; empty: unknown, and every text is scored.
        otherwise: What to do with a text in another language: `refuse`, or score it `as-model`.
        metrics: Counts.
    """

    def __init__(self, languages: Languages, known: Sequence[str], otherwise: str, metrics: Metrics) -> None:
        self._languages, self._known, self._otherwise, self._metrics = languages, tuple(known), otherwise, metrics
        self._countable = ISO_639_1 | {language_parts(code)[0] for code in known}
        self._warned: set[tuple[str, bool]] = set()
        self._warning = threading.Lock()  # requests are read on two event loops and in threads

    @property
    def only(self) -> tuple[str, ...]:
        """If a request names languages, it has to name one of these; empty: all are accepted."""
        return () if self._otherwise == "as-model" else self._known

    def judge(self, text: str, asked: Sequence[str] | None, attribute: str) -> TextLanguage:
        """Decide whether to score a text.

        Args:
            text: Any.
            asked: Languages that the request names; one that the model reads is enough.
            attribute: A requested attribute, for the refusal.

        Raises:
            PerspectiveProblem: it is refused.
        """
        detected = self._languages.detect(text)
        if asked:
            named = list(asked)
            read = [code for code in asked if any(same_language(code, other) for other in self._known)]
            is_read = not self._known or bool(read)
        else:
            foreign = self._languages.foreign(text, self._known, detected)
            named, is_read = [self._name(detected, foreign)], foreign is None
            read = named
        if is_read:
            return TextLanguage(named, detected, self._label(read or named))
        tags = list(filter(_TAG.fullmatch, named))
        label = self._label(tags or named)
        scored = self._otherwise == "as-model" and bool(tags)
        self._warn(label, scored)
        if scored:
            return TextLanguage(named, detected, label, ", ".join(self._known))
        self._metrics.language(label, "refused")
        raise _refusal(attribute, named, detected, asked)

    def count(self, language: TextLanguage) -> None:
        """Count a scored text."""
        self._metrics.language(language.label, "scored" if language.foreign_to is None else "as_model")

    def _name(self, detected: str, foreign: str | None) -> str:
        """The language of a text; if unsure, the model's first language."""
        if foreign or not self._known or any(same_language(detected, code) for code in self._known):
            return foreign or detected
        return self._known[0]

    def _label(self, codes: Sequence[str]) -> str:
        primary = language_parts(codes[0])[0]
        return primary if primary in self._countable else OTHER

    def _warn(self, label: str, scored: bool) -> None:
        """Log a warning once for each language; their number is bounded."""
        with self._warning:
            if (label, scored) in self._warned:
                return
            self._warned.add((label, scored))
        done = "scored as if they were in its own" if scored else "refused; some clients then treat them as clean"
        logger.warning(
            f"texts in a language that the model does not read are {done}",
            extra={"language": label, "model_languages": list(self._known), "setting": "--perspective-languages"},
        )


def _refusal(attribute: str, named: Sequence[str], detected: str, asked: Sequence[str] | None) -> PerspectiveProblem:
    shown = list(map(show_name, named))
    detail = {"detectedLanguages": [detected], "attribute": attribute}
    if asked:
        detail["requestedLanguages"] = shown
    return PerspectiveProblem(
        f"Attribute {attribute} does not support request languages: {', '.join(shown)}",
        "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        {"languageNotSupportedByAttributeError": detail},
    )
