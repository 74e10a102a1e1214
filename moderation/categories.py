"""The names of a model's labels in two other APIs: OpenAI's moderation categories, Perspective's attributes.

Labels with a name that is known there, or that is in the tables here, are mapped automatically. All others are mapped
by settings: `--map offensive=harassment`, at export (then the bundle keeps it) or when serving.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from moderation.errors import ConfigError

CATEGORIES: dict[str, tuple[str, ...]] = {
    "harassment": ("toxic", "severe_toxic", "insult", "toxicity", "severe_toxicity"),
    "harassment/threatening": ("threat",),
    "hate": ("identity_hate", "identity_attack"),
    "hate/threatening": (),
    "illicit": (),
    "illicit/violent": (),
    "self-harm": (),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": ("sexual_explicit", "sexually_explicit"),
    "sexual/minors": (),
    "violence": ("threat",),
    "violence/graphic": (),
}
"""OpenAI's categories, and the labels that belong to each, in addition to a label of the same name."""

BOTH = ("hate/threatening", ("hate", "harassment/threatening"))
"""A category that needs no label of its own: it is true where these two are."""

ATTRIBUTES: dict[str, str] = {
    "toxic": "TOXICITY",
    "severe_toxic": "SEVERE_TOXICITY",
    "obscene": "PROFANITY",
    "threat": "THREAT",
    "insult": "INSULT",
    "identity_hate": "IDENTITY_ATTACK",
    "sexual_explicit": "SEXUALLY_EXPLICIT",
}
"""Labels with another name in Perspective. All others are attributes under their own names, in capitals."""

PERSPECTIVE_NAMES: tuple[str, ...] = (
    *ATTRIBUTES.values(),
    *("FLIRTATION", "TOXICITY_FAST", "ATTACK_ON_AUTHOR", "ATTACK_ON_COMMENTER", "INCOHERENT", "INFLAMMATORY"),
    *("LIKELY_TO_REJECT", "OBSCENE", "SPAM", "UNSUBSTANTIAL", "AFFINITY", "COMPASSION", "CONSTRUCTIVE", "CURIOSITY"),
    *("NUANCE", "PERSONAL_STORY", "REASONING", "RESPECT", "ALIENATION", "FEARMONGERING", "GENERALIZATION"),
    *("MORAL_OUTRAGE", "POWER_APPEAL", "SCAPEGOATING"),
)
"""Attributes that the Perspective API has had; each is also known as `..._EXPERIMENTAL`."""

TWIN = "_EXPERIMENTAL"

LabelMapping = Mapping[str, tuple[str, ...]]
"""Label -> the categories and attributes that it was mapped to."""

NO_MAPPING: LabelMapping = MappingProxyType({})


@dataclass(frozen=True)
class Counterparts:
    """How a model's labels translate to the two APIs.

    Args:
        categories: Every OpenAI category -> the labels that it comes from; any one of them is enough.
        attributes: Perspective's attribute -> label, including the names `..._EXPERIMENTAL`.
        without_category: Labels that belong to no category.
    """

    categories: dict[str, tuple[str, ...]]
    attributes: dict[str, str]
    without_category: tuple[str, ...]

    @property
    def has_categories(self) -> bool:
        """Whether any label belongs to a category."""
        return any(self.categories.values())

    def supported(self, category: str) -> tuple[str, ...]:
        """Labels that a category comes from; empty: this model cannot decide it."""
        name, both = BOTH
        found = self.categories[category]
        if found or category != name:
            return found
        parts = [self.categories[part] for part in both]
        return tuple(dict.fromkeys(label for part in parts for label in part)) if all(parts) else ()


def find_counterparts(
    labels: Sequence[str], mapping: LabelMapping = NO_MAPPING, words: Sequence[str] = ()
) -> Counterparts:
    """Find the names of each label in the two APIs.

    Args:
        labels: The model's labels.
        mapping: From its bundle, for labels that have other names there than their own.
        words: Settings, as for `read_mapping`; they take precedence for the labels and attributes that they name.

    Raises:
        ConfigError: the settings cannot be read.

    >>> found = find_counterparts(["offensive", "Self Harm", "spam"], {"offensive": ("harassment", "TOXICITY")})
    >>> {category: labels for category, labels in found.categories.items() if labels}
    {'harassment': ('offensive',), 'self-harm': ('Self Harm',)}
    >>> found.attributes["TOXICITY"], found.attributes["SELF_HARM"], found.without_category
    ('offensive', 'Self Harm', ('spam',))
    """
    override = read_mapping(words, labels)
    taken = {name for names in override.values() for name in names if name not in CATEGORIES}
    kept = {label: tuple(name for name in names if name not in taken) for label, names in mapping.items()}
    mapping = kept | override
    chosen = {label: _categories_of(label, mapping.get(label, ())) for label in labels}
    return Counterparts(
        categories={name: tuple(label for label in labels if name in chosen[label]) for name in CATEGORIES},
        attributes=find_attributes(labels, mapping),
        without_category=tuple(label for label in labels if not chosen[label]),
    )


def find_attributes(labels: Sequence[str], mapping: LabelMapping = NO_MAPPING) -> dict[str, str]:
    """Attributes that a model can score, and the label behind each.

    Args:
        labels: The model's labels.
        mapping: For labels that have other names there than their own.

    Returns:
        Attribute -> label; attributes of the Perspective API also under their `_EXPERIMENTAL` names.

    >>> find_attributes(["toxic", "off topic"])
    {'TOXICITY': 'toxic', 'OFF_TOPIC': 'off topic', 'TOXICITY_EXPERIMENTAL': 'toxic'}
    """
    attributes: dict[str, str] = {}
    for label in labels:
        attributes |= {name: label for name in mapping.get(label, ()) if name in PERSPECTIVE_NAMES}
    for rule in (_known_there, _known_here, _in_capitals):
        for label in labels:
            name = rule(label)
            if name and name not in attributes and label not in attributes.values():
                attributes[name] = label
    known = set(PERSPECTIVE_NAMES)
    return attributes | {f"{name}{TWIN}": label for name, label in attributes.items() if name in known}


def perspective_name(name: str) -> str | None:
    """The attribute of the Perspective API that a name means, in any spelling; None: it is not one.

    >>> perspective_name("Severe Toxicity"), perspective_name("SPAM_EXPERIMENTAL"), perspective_name("likes")
    ('SEVERE_TOXICITY', 'SPAM', None)
    """
    return _OWN_ATTRIBUTE.get(_plain(name))


def read_mapping(words: Sequence[str], labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read settings such as `offensive=harassment`; a label may be named several times.

    Args:
        words: A label, an equals sign, and an OpenAI category or a Perspective attribute, in any spelling.
        labels: The model's labels.

    Raises:
        ConfigError: an unknown label or name, or two labels for one attribute; lists all problems.

    >>> read_mapping(["offensive=harassment", "offensive=toxicity"], ["offensive"])
    {'offensive': ('harassment', 'TOXICITY')}
    """
    mapping: dict[str, tuple[str, ...]] = {}
    problems = []
    for word in words:
        label, equals, target = word.rpartition("=")
        name = _OWN_CATEGORY.get(_plain(target)) or _OWN_ATTRIBUTE.get(_plain(target))
        if not equals:
            problems.append(f"{word!r}: expected LABEL=NAME, such as offensive=harassment")
        elif label not in labels:
            problems.append(f"{word!r}: the model has no such label; it has {', '.join(labels)}")
        elif name is None:
            problems.append(
                f"{word!r}: neither an OpenAI category ({', '.join(CATEGORIES)}) nor an attribute of the "
                f"Perspective API ({', '.join(PERSPECTIVE_NAMES)})"
            )
        else:
            mapping[label] = tuple(dict.fromkeys((*mapping.get(label, ()), name)))
    problems += _find_twice(mapping)
    if problems:
        raise ConfigError("--map:\n" + "\n".join(f"  {problem}" for problem in problems))
    return mapping


def check_mapping(content: Mapping[str, Sequence[str]], labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Check a mapping in the structure of a bundle: label -> list of names.

    Raises:
        ConfigError: as `read_mapping`.
        TypeError: it has another structure.
    """
    if not isinstance(content, Mapping) or not all(isinstance(names, list) for names in content.values()):
        raise TypeError("mapping")
    return read_mapping([f"{label}={name}" for label, names in content.items() for name in names], labels)


def _find_twice(mapping: LabelMapping) -> list[str]:
    """An attribute has one score, and a moderator's decision about it is about one label."""
    takers: dict[str, list[str]] = {}
    for label, names in mapping.items():
        for name in names:
            takers.setdefault(name, []).append(label)
    return [
        f"{name}: mapped from {' and '.join(found)}; expected one label per attribute"
        for name, found in takers.items()
        if len(found) > 1 and name not in CATEGORIES
    ]


def _categories_of(label: str, mapped: Sequence[str]) -> tuple[str, ...]:
    if explicit := tuple(name for name in mapped if name in CATEGORIES):
        return explicit
    plain = _plain(label)
    return tuple(
        category for category, others in CATEGORIES.items() if plain == _plain(category) or plain in map(_plain, others)
    )


def _known_there(label: str) -> str | None:
    return None if _known_here(label) else _OWN_ATTRIBUTE.get(_plain(label))


def _known_here(label: str) -> str | None:
    return _TABLE.get(_plain(label))


def _in_capitals(label: str) -> str | None:
    return re.sub(r"\W+", "_", label).upper()


def _plain(name: str) -> str:
    """A name without the characters that people write in different ways.

    >>> _plain("Self-Harm / Intent") == _plain("self_harm/intent")
    True
    """
    return re.sub(r"[-_/\s]+", "", name).casefold()


_TABLE = {_plain(label): name for label, name in ATTRIBUTES.items()}
_OWN_CATEGORY = {_plain(name): name for name in CATEGORIES}
_OWN_ATTRIBUTE = {_plain(name): name for name in PERSPECTIVE_NAMES} | {
    _plain(name + TWIN): name for name in PERSPECTIVE_NAMES
}
