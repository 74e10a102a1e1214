"""Settings of labelled comments and their splits; light enough for `--help`."""

from typing import Literal

LabelFormat = Literal["auto", "columns", "names", "list", "json", "class"]

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
