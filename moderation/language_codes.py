"""Codes of languages: what they mean, and which mean the same."""

import re
from collections.abc import Sequence

UNDETERMINED = "und"
ANY_LANGUAGE = "any"
"""Among the languages to keep: all of them."""

_CODE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,7}")  # of ISO 639, with a region and the like


def is_english(code: str) -> bool:
    """Whether a language code, with or without a region, means English.

    >>> [is_english(code) for code in ("en", "EN", "en-US", "en_GB", " en ", "es", "english", "eng")]
    [True, True, True, True, True, False, False, False]
    """
    return language_parts(code)[0] == "en"


def language_parts(code: str) -> list[str]:
    """The parts of a language code, in lower case.

    >>> language_parts("zh_Hans-TW"), language_parts(" EN ")
    (['zh', 'hans', 'tw'], ['en'])
    """
    return code.strip().lower().replace("_", "-").split("-")


def keeps_any(languages: Sequence[str]) -> bool:
    """Whether rows of every language are kept.

    >>> keeps_any(("en", " ANY")), keeps_any(("en",))
    (True, False)
    """
    return any(code.strip().lower() == ANY_LANGUAGE for code in languages)


def base_language(code: str) -> str:
    """A language code without its region; Latin script stays, since it is another way to write some languages.

    >>> [base_language(code) for code in ("pt-BR", "EN", "zh-Hans", "ur-Latn", " ")]
    ['pt', 'en', 'zh', 'ur-Latn', 'und']
    """
    first, *others = language_parts(code)
    return "-".join([first or UNDETERMINED, *(part.title() for part in others if part == "latn")])


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean the same language: the parts that both have are equal.

    >>> [same_language("en", code) for code in ("EN", "en-GB", "en_US", "eng", "")]
    [True, True, True, False, False]
    >>> same_language("pt-BR", "pt"), same_language("zh-Hans", "zh-TW")
    (True, False)
    """
    return all(part == same for part, same in zip(language_parts(one), language_parts(other), strict=False))


def name_languages(kept: Sequence[str]) -> tuple[str, ...]:
    """The languages of a model, by the codes of the rows that it was trained on; none: they are not known.

    Args:
        kept: Codes in the notation of the table, or `any`.

    >>> name_languages(("de_AT", " EN ")), name_languages(("en", "any")), name_languages(("german",))
    (('de-AT', 'en'), (), ())
    """
    codes = [code.strip().replace("_", "-").partition("-") for code in kept if code != ANY_LANGUAGE]
    names = tuple("".join((primary.lower(), *rest)) for primary, *rest in codes)
    return names if len(names) == len(kept) and all(map(_CODE.fullmatch, names)) else ()
