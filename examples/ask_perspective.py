"""Store the Perspective API's answers about your comments while it is still available: until 31 December 2026.

    export PERSPECTIVE_KEY=...
    python examples/ask_perspective.py comments.csv answers.jsonl
    moderation migrate comments.csv --answers answers.jsonl -o migration --old-threshold 0.8

It writes one line per row of the table, in the same order: the API's answer or its error, or an empty line if there was
no answer. It sends one request a second, which is the API's usual quota, and continues where it stopped. `--host` names
another server. If the column of the comments has no usual name, such as `comment_text`, `text` or `body`, name it with
`--text-column`.
"""

import argparse
import csv
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ATTRIBUTES = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")
TEXT_COLUMN = "comment_text"
# Otherwise the only column with one of these names, which is also the one that `moderation migrate` reads.
TEXT_NAMES = {
    "text",
    "texts",
    "comment",
    "comments",
    "tweet",
    "tweets",
    "post",
    "message",
    "messages",
    "msg",
    "body",
    "content",
}
TEXT_NAMES |= {
    f"{name}_{part}" for name in ("comment", "tweet", "post", "message") for part in ("text", "body", "content")
}
TEXT_NAMES |= {"full_text", "raw_text", "text_content", "selftext", "sentence", "review", "utterance"}
LONGEST = 20_480  # bytes of the longest comment that the API accepts


def main() -> None:
    """Send one comment after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV with the comments")
    parser.add_argument("answers", type=Path, help="JSON lines to write, or to continue")
    parser.add_argument("--text-column", help=f"default: {TEXT_COLUMN}, or the one column with a usual name")
    parser.add_argument("--attributes", nargs="+", default=ATTRIBUTES)
    parser.add_argument("--per-second", type=float, default=1.0)
    parser.add_argument("--host", default="https://commentanalyzer.googleapis.com")
    words = parser.parse_args()
    csv.field_size_limit(1 << 24)
    address = f"{words.host}/v1alpha1/comments:analyze"
    with words.table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        column = find_text_column(words.table, rows.fieldnames or (), words.text_column)
        n_done = keep_whole_lines(words.answers)
        with words.answers.open("a", encoding="utf-8") as answers:
            for number, row in enumerate(rows, start=1):
                if number <= n_done:
                    continue
                text = row[column] or ""  # None: the row is too short
                answers.write(ask(address, text, words.attributes, 1 / words.per_second) + "\n")
                answers.flush()


def find_text_column(table: Path, columns: Sequence[str], asked: str | None) -> str:
    """Find the requested column; otherwise `comment_text`, or the only one with a usual name."""
    if asked is not None:
        found = [asked] if asked in columns else []
    elif TEXT_COLUMN in columns:
        found = [TEXT_COLUMN]
    else:
        found = [name for name in columns if re.sub(r"[\s.-]+", "_", name.strip().lower()) in TEXT_NAMES]
    if len(found) != 1:
        what = (
            f"no column {asked or TEXT_COLUMN}" if not found else f"several may hold the comments: {', '.join(found)}"
        )
        sys.exit(f"{table}: {what}. Name the one with the comments, --text-column NAME, out of {', '.join(columns)}.")
    return found[0]


def keep_whole_lines(path: Path) -> int:
    """Count the complete answers in the file, and cut off the beginning of another that an interruption left."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    return whole.count(b"\n")


def ask(address: str, text: str, attributes: list[str], pause_s: float) -> str:
    """Return a line: the API's answer or its error, or nothing for a comment that it does not accept."""
    if not text.strip() or len(text.encode()) > LONGEST:
        return ""
    asked = {
        "comment": {"text": text},
        "requestedAttributes": {name: {} for name in attributes},
        "doNotStore": True,
    }
    headers = {"Content-Type": "application/json", "X-Goog-Api-Key": os.environ.get("PERSPECTIVE_KEY", "")}
    request = urllib.request.Request(address, json.dumps(asked).encode(), headers)
    for attempt in range(8):
        time.sleep(pause_s)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # nosec B310 # the address is the user's
                return json.dumps(json.load(answer))
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")
            if error.code == 400 and "API_KEY_INVALID" not in said:  # such as a language that the API does not know
                return json.dumps(json.loads(said))
            if error.code != 429 and error.code < 500:
                sys.exit(f"the API answers {error.code}; check PERSPECTIVE_KEY")
        except (OSError, ValueError) as error:  # the network, or half an answer
            print(f"no answer ({type(error).__name__}); trying again", file=sys.stderr)
        time.sleep(2**attempt * min(pause_s, 1.0))
    sys.exit("the API does not answer; run the same command again later")


if __name__ == "__main__":
    main()
