"""How a setting is declared, and how wrong ones are refused."""

from dataclasses import field
from typing import Any, Literal

from moderation.errors import ConfigError

Backend = Literal["auto", "openvino", "onnx-int8", "onnx", "torch", "torchscript"]


THRESHOLDS_HELP = (
    "file of thresholds to decide by: thresholds.json, the JSON that the server's page copies, or "
    '{"LABEL": NUMBER}; labels that are not in it keep the bundle\'s'
)
THRESHOLD_HELP = "LABEL=NUMBER, one or more, such as toxic=0.8; counts before --thresholds and the bundle's"


def setting(default: Any, help: str, group: str = "", short: tuple[str, ...] = (), *, app: bool = False) -> Any:
    """Declare a field.

    Args:
        default: Its value where nobody says another.
        help: Its `--help` line.
        group: The heading that it stands under there.
        short: Short flags such as `-o`.
        app: Whether it is an argument of `serving.app.create_app` too.
    """
    return field(default=default, metadata={"help": help, "group": group, "short": short, "app": app})


def raise_problems(problems: list[str]) -> None:
    """Refuse settings.

    Raises:
        ConfigError: all problems in one message, if there are any.
    """
    if problems:
        raise ConfigError("Settings:\n" + "\n".join(f"  {problem}" for problem in problems))
