"""Settings of how a table is written, as every verb that reads one declares them; light enough for `--help`."""

from typing import Literal

Quoting = Literal["standard", "none"]

TEXT_COLUMN_HELP = (
    "column that holds the text; where the default is not there, the one of a usual name is taken: text, comment, "
    "tweet, body, content, message and the like"
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
