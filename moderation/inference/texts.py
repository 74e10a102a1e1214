"""What a caller may hand over as texts, checked."""

from collections.abc import Iterable, Mapping, Sequence

from moderation.errors import DataError
from moderation.tables.encodings import is_unicode


def as_list(texts: Iterable[str]) -> list[str]:
    """Texts in their order.

    Raises:
        DataError: what holds no texts in an order, though it may be gone through: a mapping, a table, bytes, a set.
    """
    if isinstance(texts, str):
        raise DataError("texts: found one string, expected a list of them. Cure: [text]")
    if isinstance(texts, Mapping):
        raise DataError(
            "texts: found a mapping, of which only the keys would be read. Cure: list(texts.values()) for its values, "
            "or the one that holds the text: texts['comment_text']"
        )
    if isinstance(texts, (bytes, bytearray, memoryview)):
        raise DataError("texts: found bytes, expected text. Cure: texts.decode('utf-8')")
    if isinstance(texts, (set, frozenset)):
        raise DataError("texts: found a set, which has no order to give results in. Cure: sorted(texts)")
    if hasattr(texts, "columns"):  # a table of pandas, polars or pyarrow; that of pandas would give its columns' names
        raise DataError("texts: found a table. Cure: the column that holds the texts, such as table['comment_text']")
    try:
        return list(texts)
    except TypeError:
        raise DataError(f"texts: found {type(texts).__name__}, expected a text or a list of them.") from None


def check_texts(texts: Sequence[str]) -> list[str]:
    """Refuse what is no sequence of texts.

    Raises:
        DataError: a single string, an element that is none, or a text with half of a surrogate pair; by position.
    """
    if isinstance(texts, str):
        raise DataError("texts: found one string, expected a list of them. Cure: [text]")
    texts = list(texts)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{position}]: found {type(text).__name__}, expected str. Leave such rows out.")
        if not is_unicode(text):
            raise DataError(
                f"texts[{position}]: holds half of a surrogate pair, which is no character. "
                "Cure: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
            )
    return texts
