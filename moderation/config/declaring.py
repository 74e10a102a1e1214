"""How a setting is declared, and how wrong ones are refused."""

from collections.abc import Iterable
from dataclasses import field, fields
from typing import Any, Literal

from moderation.errors import ConfigError

Backend = Literal["auto", "openvino", "onnx-int8", "onnx", "torch", "torchscript"]


THRESHOLDS_HELP = (
    "file of thresholds to decide by: thresholds.json, the JSON that the server's page copies, or "
    '{"LABEL": NUMBER}; labels that are not in it keep the bundle\'s'
)
THRESHOLD_HELP = "LABEL=NUMBER, one or more, such as toxic=0.8; counts before --thresholds and the bundle's"


def setting(
    default: Any,
    help: str,
    group: str = "",
    short: tuple[str, ...] = (),
    *,
    metavar: str = "",
    app: bool = False,
    empty: bool = False,
) -> Any:
    """Declare a field.

    Args:
        default: Its value where nobody says another.
        help: Its `--help` line.
        group: The heading that it stands under there.
        short: Short flags such as `-o`.
        metavar: What its flag takes, such as URL; default: by its name and type (see `flags.py`).
        app: Whether it is an argument of `serving.app.create_app` too.
        empty: Whether an empty variable is a value; for every other setting it counts as unset.
    """
    metadata = {"help": help, "group": group, "short": short, "metavar": metavar, "app": app, "empty": empty}
    return field(default=default, metadata=metadata)


def no_effect(config: Any, names: Iterable[str], why: str) -> list[str]:
    """The problem of settings that were given and would do nothing; none where none was.

    Args:
        config: All settings.
        names: Those without effect here.
        why: What ends the sentence "--a, --b: ...".
    """
    defaults = {field.name: field.default for field in fields(config)}
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(config, name) != defaults[name]]
    return [f"{', '.join(given)}: {why}"] if given else []


def raise_problems(problems: list[str]) -> None:
    """Refuse settings.

    Raises:
        ConfigError: all problems in one message, if there are any.
    """
    if problems:
        raise ConfigError("Settings:\n" + "\n".join(f"  {problem}" for problem in problems))
