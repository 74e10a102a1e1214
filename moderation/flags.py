"""Flags, TOML keys and variables, derived from the dataclasses in `config`. Defaults < TOML < environment < flags."""

import argparse
import logging
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from moderation.errors import ConfigError
from moderation.logs import LogLevel
from moderation.options import LARGEST, Options, Setting, build, fit, flag_of, flatten, kind_of, settings_of
from moderation.variables import PREFIX, closest, sort_variables

Config = TypeVar("Config", bound=Options)

_METAVARS = {
    "_s": "SECONDS",
    "_bytes": "BYTES",
    "_column": "COLUMN",
    "_columns": "COLUMN",
    "_dir": "FOLDER",
    "_path": "FILE",
}
"""Ending of a setting's name -> metavar of its flag, if the setting does not define one."""

_SWITCHES = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)

_MOST_BYTES = 1 << 20  # of a file of settings

logger = logging.getLogger(__name__)


def add_flags(parser: argparse.ArgumentParser, config_class: type[Any], *, positional: str | None = None) -> None:
    """Add `--config FILE` and one flag per field of `config_class`; `positional` gets no flag.

    The positional argument is optional if its setting can be None.
    """
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings; flags override it")
    groups: dict[str, object] = {}
    settings = settings_of(config_class)
    if "log_level" not in settings:
        parser.add_argument(
            "--log-level",
            choices=get_args(LogLevel),
            default=argparse.SUPPRESS,
            help="how much to log to standard error (default: info)",
        )
    for one in settings.values():
        if one.name == positional:
            _add_positional(parser, one)
            continue
        if one.heading and one.heading not in groups:
            groups[one.heading] = parser.add_argument_group(one.heading)
        _add_flag(groups.get(one.heading, parser), one)


def _add_positional(parser: argparse.ArgumentParser, one: Setting) -> None:
    kind, choices, _ = kind_of(one.hint)
    parser.add_argument(
        one.name,
        type=_whole if kind is int else kind,
        choices=choices,
        nargs="?" if types.NoneType in get_args(one.hint) else None,
        metavar=None if choices else one.about.get("metavar") or one.name.removesuffix("_path").upper(),
        help=one.about["help"].replace("%", "%%"),
    )


def _add_flag(place: Any, one: Setting) -> None:
    """Add the flag of a setting to a parser or a group of one."""
    if one.default is False:  # --no-... unsets what a file sets; the help does not show it
        place.add_argument(
            f"--no-{one.flag[2:]}",
            dest=one.name,
            action="store_false",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
    place.add_argument(
        *one.about["short"],
        one.flag,
        dest=one.name,
        default=argparse.SUPPRESS,
        help=one.about["help"].replace("%", "%%") + _default_help(one.default),
        **_argument(one),
        **({"action": _Once} if one.about["once"] else {}),
    )


class _Once(argparse.Action):
    """Refuse a flag that is repeated: the first value would be lost unnoticed."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if hasattr(namespace, self.dest):
            parser.error(
                f"{option_string} is given more than once; give it once, or send several texts to standard input"
            )
        setattr(namespace, self.dest, values)


def merge(config_class: type[Config], flags: dict[str, object], environment: Mapping[str, str] | None = None) -> Config:
    """Build the config from its defaults, a TOML file, the environment, and the flags given; later sources win.

    Args:
        config_class: The class of the settings.
        flags: Those that were given; `flags["config"]` names the TOML file, as can `MODERATION_CONFIG`.
        environment: Variables; `MODERATION_<SETTING>` are read, and lists are separated by commas.

    Raises:
        ConfigError: the TOML file is missing or broken, it or the variables have unknown keys or values of the wrong
            type (all in one message), or the config itself refuses a value.
    """
    # None: a positional argument that was left out.
    flags = {name: value for name, value in flags.items() if value is not None}
    named = (environment or {}).get(PREFIX + "CONFIG")
    given = flags.pop("config", None) or named
    config_path = Path(str(given)) if given else None
    settings = _read_toml(config_path, config_class) if config_path else {}
    return build(config_class, settings | _read_environment(environment or {}, config_class) | flags)


def to_plain(config: Any) -> dict[str, object]:
    """The settings as values ready for JSON: paths as strings, tuples as lists."""
    return {key: _plain(value) for key, value in flatten(config).items()}


def from_plain(config_class: type[Config], settings: dict[str, object], where: str) -> Config:
    """Inverse of `to_plain`; `where` names the source of the settings in an error.

    Raises:
        ConfigError: unknown keys or values of the wrong type, all of them in one message.
    """
    return build(config_class, _typed(config_class, settings, where))


def _read_toml(path: Path, config_class: type[Any]) -> dict[str, object]:
    try:
        settings = tomllib.loads(_read_text(path))
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"--config {path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: cannot be read as UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path}: not valid TOML: {error}.") from error
    except (ValueError, RecursionError):  # a number with thousands of digits, deeply nested brackets
        raise ConfigError(
            f"--config {path}: not settings: a number is too long, or lists are nested too deeply."
        ) from None
    named = {key.replace("-", "_"): value for key, value in settings.items()}
    if len(named) < len(settings):
        raise ConfigError(f"--config {path}: a setting is given twice, with '-' and with '_'. Give it once.")
    return _typed(config_class, named, f"--config {path}")


def _read_text(path: Path) -> str:
    """Read the file, which may be a pipe.

    Raises:
        ConfigError: it is far larger than settings can be.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"--config {path}: more than {_MOST_BYTES >> 20} MiB; expected settings in TOML.")
    return content.decode("utf-8")


def warn_of_variables(
    config_class: type[Any], environment: Mapping[str, str], read_by: Mapping[str, type[Any]]
) -> None:
    """Warn of variables that a command which reads none ignores: its own settings, and unknown ones.

    Args:
        config_class: The command's settings.
        environment: All variables.
        read_by: Verbs that read variables -> their settings.
    """
    everywhere = {name for settings in read_by.values() for name in settings_of(settings)}
    found = sort_variables(environment, everywhere)
    here = {"config", "log_level", *settings_of(config_class)}
    named = {*found.settings, *(["config"] if environment.get(PREFIX + "CONFIG") else [])}
    for name in sorted(named & here):
        verbs = ", ".join(f"moderation {verb}" for verb in read_by)
        logger.warning("%s%s is only read by %s; use %s here.", PREFIX, name.upper(), verbs, flag_of(name))
    for variable, guess in found.unknown.items():
        hint = f" Did you mean {guess}?" if guess else ""
        logger.warning("%s is set, but nothing reads it.%s", variable, hint)


def _read_environment(environment: Mapping[str, str], config_class: type[Any]) -> dict[str, object]:
    settings = settings_of(config_class)
    variables = sort_variables(environment, settings)
    found, problems = {}, [_unknown_variable(name, guess) for name, guess in variables.unknown.items()]
    for name, value in variables.settings.items():
        kind, choices, many = kind_of(settings[name].hint)
        if not value and not settings[name].about.get("empty"):  # many people unset a variable by making it empty
            continue
        try:
            parts = [_parse(part.strip(), kind) for part in value.split(",") if part.strip()]
            found[name] = tuple(parts) if many else _parse(value, kind)
        except (ValueError, KeyError):
            problems.append(f"{PREFIX}{name.upper()}: expected {kind.__name__}")
        else:
            if choices and not {*(found[name] if many else [found[name]])} <= {*choices}:
                problems.append(f"{PREFIX}{name.upper()}: expected {' | '.join(choices)}")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"environment: some settings are unknown or have wrong values.\n{lines}")
    for name in variables.linked:
        logger.warning(
            "%s%s contains the address of a service, as Kubernetes sets it for a service of that name; it is not "
            "read. For the setting use %s; enableServiceLinks: false in the pod's specification prevents such "
            "variables.",
            PREFIX,
            name.upper(),
            flag_of(name),
        )
    return found


def _unknown_variable(name: str, guess: str) -> str:
    hint = f"Did you mean {guess}?" if guess else f"Every flag has a variable: --max-texts is {PREFIX}MAX_TEXTS."
    return f"{name}: no such setting. {hint}"


def _parse(word: str, kind: Any) -> Any:
    """A value of the environment; raises KeyError or ValueError if it is invalid."""
    if kind is bool:
        return _SWITCHES[word.lower()]
    return _whole(word) if kind is int else kind(word)


def _whole(word: str) -> int:
    """A whole number within the range of settings.

    Raises:
        ValueError: it is not a whole number, or one too large to write in a message.
    """
    number = int(word)
    if abs(number) > LARGEST:
        raise ValueError("too large")
    return number


_whole.__name__ = "int"  # which argparse names where a word is none


def _typed(config_class: type[Any], settings: dict[str, object], where: str) -> dict[str, object]:
    known = settings_of(config_class)
    unknown = sorted(set(settings) - set(known))
    shown = [name if len(name) <= 60 else f"(a name of {len(name):,} characters)" for name in unknown[:10]]
    shown += [f"and {len(unknown) - 10:,} more"] if len(unknown) > 10 else []
    guesses = ", ".join(filter(None, (closest(name, list(known)) for name in unknown[:10] if len(name) <= 60)))
    hint = f" Did you mean {guesses}?" if guesses else ""
    problems = [f"unknown settings: {', '.join(shown)}.{hint} Known: {', '.join(known)}"] if unknown else []
    typed = {}
    for key in known.keys() & settings.keys():
        try:
            unset = settings[key] is None and known[key].default is None
            typed[key] = None if unset else fit(settings[key], known[key].hint)
        except TypeError as error:
            problems.append(f"{key}: {error}")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in sorted(problems))
        raise ConfigError(f"{where}: some settings are unknown or have wrong values.\n{lines}")
    return typed


def _metavar(one: Setting, kind: Any) -> str:
    """The name of a flag's value in its help."""
    by_name = (what for ending, what in _METAVARS.items() if one.name.endswith(ending))
    by_type = {Path: "FILE", int: "N", float: "X"}.get(kind, "VALUE")
    return str(one.about.get("metavar") or next(by_name, by_type))


def _argument(one: Setting) -> dict[str, object]:
    """A setting's arguments for argparse."""
    kind, choices, many = kind_of(one.hint)
    if kind is bool:
        return {"action": "store_true" if one.default is False else argparse.BooleanOptionalAction}
    metavar = _metavar(one, kind)
    argument: dict[str, object] = {
        "type": _whole if kind is int else kind,
        "choices": choices,
        "metavar": None if choices else metavar,
    }
    if many:  # the config checks the choices: argparse would check before splitting at commas
        argument |= {"nargs": "+", "action": _StoreTuple, "choices": None}
        few = choices and len(choices) <= 4
        argument["metavar"] = "|".join(choices or ()) if few else metavar
    return argument


class _StoreTuple(argparse.Action):
    """Store several values as the tuple that the dataclass declares; names are separated by commas or blanks.

    A flag that is repeated adds to the tuple.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        parts = [
            part for value in values or () for part in (value.split(",") if isinstance(value, str) else [value]) if part
        ]
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *parts))


def _default_help(default: Any) -> str:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else "yes" if default is True else default
    return "" if default in (None, (), False) else f" (default: {shown})".replace("%", "%%")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
