"""How a setting is declared, and how wrong ones are refused."""

from dataclasses import field
from typing import Any, Literal

from moderation.errors import ConfigError

Backend = Literal["auto", "openvino", "onnx-int8", "onnx", "torch", "torchscript"]
Quoting = Literal["standard", "none"]
LabelFormat = Literal["auto", "columns", "names", "list", "json", "class"]

TEXT_COLUMN_HELP = (
    "column that holds the text; where the default is not there, the one of a usual name is taken: text, comment, "
    "tweet, body, content, message and the like"
)
LABEL_CUT_HELP = (
    "count a fraction in [0, 1], or a number of votes, as positive from this value on; without it both are refused"
)
LABELS_IN_HELP = "one column that holds all labels of a row: names, a list, JSON, or a class"
LABEL_FORMAT_HELP = (
    "how --labels-in holds them: names (toxic|insult), list, json ({toxic: 1}), class (one name), auto (as it "
    "looks); columns: each label has its own after all"
)
LABEL_NONE_HELP = (
    "names in --labels-in that mean no label; default: none, normal, clean, neither, ok, not, and what begins with not_"
)
DELIMITER_HELP = "field delimiter of a CSV file; default: that of a first line 'sep=;', else ',' (tab for .tsv)"
QUOTING_HELP = (
    "of a CSV file; standard: a field in double quotes, a quote in it as two; none: quotes are plain characters"
)
ESCAPE_HELP = "character of a CSV file that makes a following quote or delimiter plain, such as '\\'; default: none"


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
