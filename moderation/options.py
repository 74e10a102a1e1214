"""Settings as frozen dataclasses, each with a default, a help line and a range; a verb's settings consist of parts.

A stage takes one options object. A verb combines several of them with `part`, and `flags.py` walks through them to find
its flags, TOML keys and variables.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from moderation.errors import ConfigError

Group = TypeVar("Group", bound="Options")

LARGEST = (1 << 63) - 1
"""Whole number of a setting."""

_LONGEST_PATH = 4096


class Range(TypedDict, total=False):
    """Bounds of a number: larger than `above` or at least `at_least`, smaller than `below` or at most `at_most`."""

    above: float
    at_least: float
    below: float
    at_most: float


def setting(
    default: Any,
    help: str,
    heading: str = "",
    short: tuple[str, ...] = (),
    *,
    metavar: str = "",
    empty: bool = False,
    once: bool = False,
    **bounds: Unpack[Range],
) -> Any:
    """Declare a field.

    Args:
        default: Its value if none is given.
        help: Its `--help` line.
        heading: Its heading there; default: that of its part.
        short: Short flags such as `-o`.
        metavar: Name of the flag's value, such as URL; default: from its name and type (see `flags.py`).
        empty: Whether an empty variable is a value; for all other settings it counts as unset.
        once: Whether a repeated flag is refused; for other flags the last one counts, or all together if the flag takes
            several values.
        **bounds: Range of a number, such as `at_least=1`; see `Range`.
    """
    about = {"help": help, "heading": heading, "short": short, "metavar": metavar, "empty": empty, "once": once}
    return dataclasses.field(default=default, metadata=about | {"range": bounds})


def part(kind: "Callable[[], Options]", heading: str = "") -> Any:
    """Declare a field that holds the options of a stage.

    Args:
        kind: Their class.
        heading: Heading of its settings in `--help`, unless they have their own.
    """
    return dataclasses.field(default_factory=kind, metadata={"part": kind, "heading": heading})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings that belong together, checked when they are created.

    Each value becomes what its field declares: a list a tuple, a text a path, a whole number a float.

    Raises:
        ConfigError: lists every value of a wrong type or out of range, and every problem between settings.
    """

    def __post_init__(self) -> None:
        """Check everything that needs no file."""
        values, problems = _fit_all(self)
        problems += _out_of_range(self, values)
        if len(values) == len(dataclasses.fields(self)):  # else what follows could not work with some of them
            for name, value in values.items():
                object.__setattr__(self, name, value)
            problems += self.problems()
        raise_problems(problems)

    def problems(self) -> list[str]:
        """Problems between the settings; the type and range of each one is already checked."""
        return []


@dataclass(frozen=True)
class Setting:
    """One setting of a verb, in whichever part.

    Args:
        name: As in TOML; the flag has hyphens.
        hint: Its type.
        default: Its default.
        heading: Its heading in `--help`; empty: none.
        about: What was passed to `setting`.
        where: Names of the parts on the way to it.
    """

    name: str
    hint: Any
    default: Any
    heading: str
    about: Mapping[str, Any]
    where: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Its flag, such as `--batch-size`."""
        return flag_of(self.name)


def flag_of(name: str) -> str:
    """The flag of a setting.

    >>> flag_of("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


def settings_of(options: type[Any]) -> Mapping[str, Setting]:
    """Every setting of a verb or stage by its name, in the order of declaration.

    Raises:
        TypeError: two parts declare the same name.
    """
    found: dict[str, Setting] = {}
    for one in _walk(options, (), ""):
        if one.name in found:
            raise TypeError(f"{options.__name__}: {one.name} is declared twice")
        found[one.name] = one
    return types.MappingProxyType(found)


def _walk(options: type[Any], where: tuple[str, ...], heading: str) -> Iterator[Setting]:
    hints = get_type_hints(options)
    for field in dataclasses.fields(options):
        about = field.metadata
        own = about.get("heading") or heading
        if "part" in about:
            yield from _walk(about["part"], (*where, field.name), own)
        else:
            default = None if field.default is MISSING else field.default
            yield Setting(field.name, hints[field.name], default, own, about, where)


def flatten(options: Any) -> dict[str, Any]:
    """The values of all settings by name, including those of parts.

    Args:
        options: Settings of a verb or a stage.
    """
    found = {}
    for one in settings_of(type(options)).values():
        holder = options
        for name in one.where:
            holder = getattr(holder, name)
        found[one.name] = getattr(holder, one.name)
    return found


def build(options: type[Group], values: Mapping[str, Any]) -> Group:
    """Build options from values by name; settings without a value keep their defaults.

    Args:
        options: Class of a verb's or stage's settings.
        values: Setting -> value; settings of parts by their own names.

    Raises:
        ConfigError: lists everything that is wrong, in all parts.
        TypeError: a name is not a setting.
    """
    if unknown := values.keys() - settings_of(options).keys():
        raise TypeError(f"{options.__name__} has no settings {sorted(unknown)}")
    problems: list[str] = []
    made = _build(options, values, problems)
    raise_problems(problems)
    return made


def _build(options: type[Group], values: Mapping[str, Any], problems: list[str]) -> Group:
    """Like `build`, but collect the problems; a value of a wrong type gets its default."""
    words: dict[str, object] = {}
    for field in dataclasses.fields(options):
        if "part" in field.metadata:
            words[field.name] = _build(field.metadata["part"], values, problems)
        elif field.name in values:
            words[field.name] = values[field.name]
    try:
        return options(**words)
    except Unusable as error:
        problems += error.problems
        stand_in = object.__new__(options)
        for field in dataclasses.fields(options):
            object.__setattr__(stand_in, field.name, words.get(field.name, field.default))
        sound, _ = _fit_all(stand_in)
        for field in dataclasses.fields(options):
            object.__setattr__(stand_in, field.name, sound.get(field.name, field.default))
        return stand_in


def change(options: Group, **values: Any) -> Group:
    """The same options with other values, by the settings' own names, whichever part they are in.

    Raises:
        ConfigError: a value is invalid.
        TypeError: a name is not a setting.
    """
    return build(type(options), flatten(options) | values)


def no_effect(options: Any, names: "list[str] | tuple[str, ...]", why: str) -> list[str]:
    """Report settings that were given although they have no effect here; empty if there are none.

    Args:
        options: All settings.
        names: Settings that have no effect here.
        why: The end of the sentence "--a, --b: ...".
    """
    known, values = settings_of(type(options)), flatten(options)
    given = [known[name].flag for name in names if values[name] != known[name].default]
    return [f"{', '.join(given)}: {why}"] if given else []


class Unusable(ConfigError):
    """Invalid settings, with a list of the problems."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("problems with the settings:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


def raise_problems(problems: list[str]) -> None:
    """Refuse settings.

    Raises:
        ConfigError: lists all problems, if there are any.
    """
    if problems:
        raise Unusable(problems)


def kind_of(hint: Any) -> tuple[Any, tuple[Any, ...] | None, bool]:
    """Type of one value, its choices, and whether the setting takes several.

    >>> kind_of(tuple[int, ...])
    (<class 'int'>, None, True)
    """
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not types.NoneType)
    if get_origin(hint) is tuple:
        kind, choices, _ = kind_of(get_args(hint)[0])
        return kind, choices, True
    if get_origin(hint) is Literal:
        return str, get_args(hint), False
    return hint, None, False


def fit(value: Any, hint: Any) -> Any:
    """A value as its field declares it: a list as a tuple, a text as a path, a whole number as a float.

    Raises:
        TypeError: it is of another type; the message says what was expected and what was found.
    """
    kind, _, many = kind_of(hint)
    if many:
        if not isinstance(value, list | tuple):
            raise TypeError(f"expected a list, found {_name_type(value)}")
        return tuple(fit(item, kind) for item in value)
    if kind is Path and isinstance(value, str | Path):
        if len(str(value)) > _LONGEST_PATH or "\0" in str(value):
            raise TypeError("expected a path, found one that is too long or contains a zero byte")
        return Path(value)
    if isinstance(value, Integral) and abs(int(value)) > LARGEST:
        raise TypeError(f"expected {kind.__name__}, found a number of more than 64 bits")
    if kind in (int, float) and isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool):
        return kind(value)
    if kind not in (int, float) and isinstance(value, kind):
        return value
    raise TypeError(f"expected {kind.__name__}, found {_name_type(value)}")


def _name_type(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _fit_all(options: Any) -> tuple[Mapping[str, Any], list[str]]:
    """The values of the fields, parts too, as these declare them; and a line for each that is of a wrong type."""
    hints = get_type_hints(type(options))
    values, problems = {}, []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        try:
            values[field.name] = _fit_field(value, field, hints[field.name])
        except TypeError as error:
            name = field.name if "part" in field.metadata else flag_of(field.name)
            problems.append(f"{name}: {error}")
    return values, problems


def _fit_field(value: Any, field: "dataclasses.Field[Any]", hint: Any) -> Any:
    if "part" in field.metadata:
        if not isinstance(value, hint):
            raise TypeError(f"expected {hint.__name__}, found {_name_type(value)}")
        return value
    if value is None and (field.default is None or types.NoneType in get_args(hint)):
        return None
    return fit(value, hint)


def _out_of_range(options: Any, values: Mapping[str, Any]) -> Iterator[str]:
    """A line for each value, of the right type, that its own field does not allow."""
    hints = get_type_hints(type(options))
    for field in dataclasses.fields(options):
        value = values.get(field.name)
        if "part" in field.metadata or value is None:
            continue
        given = getattr(options, field.name)  # a whole number is shown as one
        _, choices, many = kind_of(hints[field.name])
        if choices and not {*(value if many else (value,))} <= {*choices}:
            shown = ", ".join(value) if many else value
            yield f"{flag_of(field.name)} is {shown}, expected {' | '.join(map(str, choices))}"
        bounds = field.metadata.get("range", {})
        if bounds and not all(_HOLDS[name](value, bound) for name, bound in bounds.items()):
            yield f"{flag_of(field.name)} is {given}, expected {_say(**bounds)}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{flag_of(field.name)} is {given}, expected a finite number"


_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "above": lambda value, bound: value > bound,
    "at_least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at_most": lambda value, bound: value <= bound,
}


def _say(
    above: float | None = None, at_least: float | None = None, below: float | None = None, at_most: float | None = None
) -> str:
    """A range in words.

    >>> [_say(at_least=1), _say(above=0), _say(at_least=0, at_most=1), _say(above=0, below=1)]
    ['1 or more', 'more than 0', 'from 0 to 1', 'between 0 and 1']
    >>> [_say(above=0, at_most=1), _say(at_least=0, below=1)]
    ['above 0 and at most 1', 'at least 0 and below 1']
    """
    if at_least is not None and at_most is not None:
        return f"from {at_least} to {at_most}"
    if above is not None and below is not None:
        return f"between {above} and {below}"
    if at_least is not None:
        return f"{at_least} or more" if below is None else f"at least {at_least} and below {below}"
    if above is not None:
        return f"more than {above}" if at_most is None else f"above {above} and at most {at_most}"
    return f"less than {below}" if below is not None else f"{at_most} or less"
