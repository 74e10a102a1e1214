"""Types and lines of help that the settings of several verbs share."""

from typing import Literal

from moderation.forms import BackendName

Backend = BackendName

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


CSV_SAFE_HELP = (
    "of CSV and TSV: put an apostrophe before what a spreadsheet would run as a formula: cells that begin with =, +, "
    "-, @, a tab or a line break, and such signs where another delimiter would cut a cell; this changes the data"
)
THRESHOLDS_HELP = (
    "file of thresholds to decide by: thresholds.json, the JSON that the server's page copies, or "
    '{"LABEL": NUMBER}; labels that are not in it keep the bundle\'s'
)
THRESHOLD_HELP = "one or more thresholds, such as toxic=0.8; they override --thresholds and the bundle's"
