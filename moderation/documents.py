"""JSON documents: a frozen dataclass is written as an object with its field names, and checked when it is read.

Allowed types of fields: `str`, `int`, `float`, `bool`, `None`, `Literal`, other dataclasses, lists, tuples and
mappings of these, unions, and `Any` or `object` for JSON that is not checked. A class with its own JSON has `to_plain`
and a class method `from_plain`.
"""

import dataclasses
import functools
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from moderation.artifacts import read_json, write_json
from moderation.errors import ArtifactError
from moderation.escapes import escape_name

T = TypeVar("T")

_MOST_PROBLEMS = 5  # listed in a message


def json_field(default: Any = MISSING, *, name: str = "", optional: bool = False) -> Any:
    """Declare a field that JSON stores under another name, or not always.

    Args:
        default: Its default.
        name: Its name in JSON, if that is not a Python name.
        optional: Whether it is left out if it has its default value.
    """
    return dataclasses.field(default=default, metadata={"name": name, "optional": optional})


@dataclass(frozen=True)
class Document(Generic[T]):
    """One kind of JSON file.

    A field with a default may be missing; one declared with `json_field(optional=True)` is left out if it has
    its default value.

    Args:
        kind: The dataclass of its content. Its `__post_init__` may raise ValueError with what is wrong.
        what: What the file is and who writes it, for messages.
        format: Value of the key `format`; empty: the file has neither `format` nor `version`.
        version: The newest version that can be read; the oldest is 1.
        cure: How to get a new file, such as "tune again".
        extra: Whether names that are not fields are ignored rather than refused.
    """

    kind: type[T]
    what: str
    format: str = ""
    version: int = 1
    cure: str = "restore it, or write it again"
    extra: bool = False

    def read(self, path: Path, *, unique_keys: bool = False) -> T:
        """Read a file.

        Args:
            path: The file.
            unique_keys: Refuse a key that is repeated in one object.

        Raises:
            ArtifactError: missing, not JSON, another document, a newer version, or fields that are unknown, missing or
                of another type; the message names them.
        """
        return self.parse(read_json(path, self.what, unique_keys=unique_keys), path)

    def write(self, path: Path, value: T) -> None:
        """Write a file.

        Raises:
            ArtifactError: it cannot be written.
        """
        write_json(path, self.to_plain(value))

    def parse(self, content: Mapping[str, Any], where: Path | str) -> T:
        """Check the content of a file.

        Args:
            content: The content of the JSON file.
            where: The file, for messages.

        Raises:
            ArtifactError: as for `read`.
        """
        fields = dict(content)
        if self.format:
            self._check_version(fields.pop("format", None), fields.pop("version", None), where)
        problems: list[str] = []
        value = _Reader(problems, self.extra).read(self.kind, fields, "")
        if problems:
            more = ["..."] if len(problems) > _MOST_PROBLEMS else []
            listed = "; ".join([*problems[:_MOST_PROBLEMS], *more])
            raise ArtifactError(f"{where}: {listed}. Expected {self.what}. If it was edited manually, {self.cure}.")
        return value  # type: ignore[no-any-return]

    def to_plain(self, value: T) -> dict[str, object]:
        """The content, ready for JSON."""
        head: dict[str, object] = {"format": self.format, "version": self.version} if self.format else {}
        fields: dict[str, object] = to_plain(value)
        return head | fields

    def _check_version(self, found: object, version: object, where: Path | str) -> None:
        if found != self.format:
            raise ArtifactError(f"{where}: not in the format {self.format!r}. Expected {self.what}.")
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= self.version:
            raise ArtifactError(
                f"{where}: format version {escape_name(version)}, expected {self.version}. Update this program, or "
                f"{self.cure}."
            )


def to_plain(value: Any) -> Any:
    """A dataclass and everything in it, ready for JSON.

    >>> @dataclass
    ... class Point:
    ...     x: float
    ...     name: str | None = json_field(None, name="its-name", optional=True)
    >>> to_plain(Point(1.0, "a")), to_plain((Point(1.0),))
    ({'x': 1.0, 'its-name': 'a'}, [{'x': 1.0}])
    """
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            _name_of(field): to_plain(content)
            for field, content in pairs
            if not (field.metadata.get("optional") and content == _default_of(field))
        }
    if isinstance(value, Mapping):
        return {name: to_plain(content) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(content) for content in value]
    return value


def _name_of(field: "dataclasses.Field[Any]") -> str:
    return field.metadata.get("name") or field.name


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    types.NoneType: ("null", lambda value: value is None),
}


class _Reader:
    """Turn JSON into the types of fields, and collect what does not fit.

    Args:
        problems: The list to add problems to.
        extra: Whether names that are not fields are ignored.
    """

    def __init__(self, problems: list[str], extra: bool) -> None:
        self._problems = problems
        self._extra = extra

    def read(self, hint: Any, value: Any, where: str) -> Any:
        """The value as its type; None, and one more problem, if it does not fit."""
        if hint in (Any, object):
            return value
        if hint in _PLAIN:
            expected, fits = _PLAIN[hint]
            return value if fits(value) else self._refuse(where, expected)
        if hint is float:
            return self._number(value, where)
        origin, arguments = get_origin(hint) or hint, get_args(hint)
        if origin is Literal:
            return value if value in arguments else self._refuse(where, " | ".join(map(str, arguments)))
        if origin in (Union, types.UnionType):
            return self._one_of(arguments, value, where)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(arguments[1], value, where)
        if origin is tuple and arguments[-1] is not Ellipsis:
            return self._tuple(arguments, value, where)
        if isinstance(origin, type) and issubclass(origin, Sequence):
            items = self._items(arguments[0], value, where)
            return tuple(items) if origin is tuple else items
        return self._dataclass(hint, value, where)

    def _number(self, value: Any, where: str) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_number = is_number and abs(value) <= sys.float_info.max  # compares whole numbers of any length
        return value if is_number else self._refuse(where, "a number")

    def _one_of(self, hints: Sequence[Any], value: Any, where: str) -> Any:
        if value is None and types.NoneType in hints:
            return None
        hints = [hint for hint in hints if hint is not types.NoneType]
        for hint in hints[:-1]:
            problems: list[str] = []
            found = _Reader(problems, self._extra).read(hint, value, where)
            if not problems:
                return found
        return self.read(hints[-1], value, where)

    def _mapping(self, hint: Any, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            return self._refuse(where, "an object")
        return {name: self.read(hint, content, _join(where, name)) for name, content in value.items()}

    def _items(self, hint: Any, value: Any, where: str) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            self._refuse(where, "a list")
            return []
        return [self.read(hint, content, f"{where}[{i}]") for i, content in enumerate(value)]

    def _tuple(self, hints: Sequence[Any], value: Any, where: str) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(hints):
            return self._refuse(where, f"a list of {len(hints)}")
        pairs = zip(hints, value, strict=True)
        return tuple(self.read(hint, content, f"{where}[{i}]") for i, (hint, content) in enumerate(pairs))

    def _dataclass(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            return self._refuse(where, "an object")
        n_before = len(self._problems)
        if hasattr(kind, "from_plain"):
            return self._make(kind.from_plain, (value,), {}, where)
        hints = _hints(kind)
        fields = {_name_of(field): field for field in dataclasses.fields(kind) if field.init}
        for name in sorted(value.keys() - fields.keys()) if not self._extra else ():
            self._problems.append(f"{_join(where, name)} is unknown")
        words = {}
        for name, field in fields.items():
            if name in value:
                words[field.name] = self.read(hints[field.name], value[name], _join(where, name))
            elif _default_of(field) is MISSING:
                self._problems.append(f"{_join(where, name)} is missing")
        return self._make(kind, (), words, where) if len(self._problems) == n_before else None

    def _make(self, make: Callable[..., Any], given: tuple[Any, ...], words: Mapping[str, Any], where: str) -> Any:
        try:
            return make(*given, **words)
        except ValueError as error:
            self._problems.append(f"{where}: {error}" if where else str(error))
            return None

    def _refuse(self, where: str, expected: str) -> Any:
        self._problems.append(f"{where or 'the document'} is not {expected}")
        return None


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _join(where: str, name: str) -> str:
    """A place in the document, such as `thresholds.toxic.value`."""
    return f"{where}.{escape_name(name)}" if where else escape_name(name)
