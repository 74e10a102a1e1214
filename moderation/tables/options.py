"""Settings of the format of a table, for every verb that reads one; imports little, so that `--help` is quick."""

from typing import Literal

TEXT_COLUMN = "comment_text"
Quoting = Literal["standard", "none"]

TEXT_COLUMN_HELP = (
    "column of the texts; if the default is missing, a column with a usual name is used: text, comment, tweet, body, "
    "content, message and the like"
)
DELIMITER_HELP = "field delimiter of a CSV file; default: the one in a first line 'sep=;', otherwise ',' (tab for .tsv)"
QUOTING_HELP = (
    "quotes in a CSV file; standard: they enclose a field, and a quote inside it is doubled; none: they are ordinary "
    "characters"
)
ESCAPE_HELP = (
    "character of a CSV file that makes the quote or delimiter after it an ordinary character, such as '\\'; "
    "default: none"
)
CSV_SAFE_HELP = (
    "CSV and TSV only: put an apostrophe before anything that a spreadsheet would run as a formula: =, +, -, @, a tab "
    "or a line break that begins a cell, or would begin one with another delimiter; this changes the data"
)
