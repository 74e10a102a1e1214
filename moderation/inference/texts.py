"""Checks what callers pass as texts."""

from collections.abc import Iterable, Mapping, Sequence

from moderation.errors import DataError
from moderation.tables.encodings import is_unicode


def as_list(texts: Iterable[str]) -> list[str]:
    """Texts in their order.

    Raises:
        DataError: an iterable that does not hold ordered texts: a mapping, a table, bytes, a set.
    """
    if isinstance(texts, str):
        raise DataError("texts: found one string, expected a list of them. Use [text].")
    if isinstance(texts, Mapping):
        raise DataError(
            "texts: found a mapping, of which only the keys would be read. Use list(texts.values()) for its values, "
            "or the value that is the text, such as texts['comment_text']."
        )
    if isinstance(texts, (bytes, bytearray, memoryview)):
        raise DataError("texts: found bytes, expected text. Use texts.decode('utf-8').")
    if isinstance(texts, (set, frozenset)):
        raise DataError("texts: found a set, which has no order; expected a list of texts. Use sorted(texts).")
    if hasattr(texts, "columns"):  # a table of pandas, polars or pyarrow; a pandas table would yield its column names
        raise DataError("texts: found a table. Pass the column of the texts, such as table['comment_text'].")
    try:
        return list(texts)
    except TypeError:
        raise DataError(f"texts: found {type(texts).__name__}, expected a text or a list of them.") from None


def check_texts(texts: Sequence[str]) -> list[str]:
    """Refuse anything that is not a sequence of texts.

    Raises:
        DataError: a single string, an element that is not a string, or half of a surrogate pair; by position.
    """
    if isinstance(texts, str):
        raise DataError("texts: found one string, expected a list of them. Use [text].")
    texts = list(texts)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{position}]: found {type(text).__name__}, expected str. Leave such rows out.")
        if not is_unicode(text):
            raise DataError(
                f"texts[{position}]: contains half of a surrogate pair, which is not a character. "
                "Replace it: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
            )
    return texts
