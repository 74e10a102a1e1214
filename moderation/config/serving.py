"""Settings of the verbs for the server: serve, keys, feedback."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.inference.options import INCLUDED, THRESHOLD_HELP, THRESHOLDS_HELP
from moderation.logs import LogLevel
from moderation.options import Options, no_effect, part, setting
from moderation.serving.options import FEEDBACK_URL, ServerOptions
from moderation.tables.options import CSV_SAFE_HELP


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Options):
    """Settings of `moderation serve`: those of the processes, and of the application that each of them runs."""

    model: Path | None = setting(
        None, f"folder of a bundle, or an included model: {INCLUDED}", short=("-m",), metavar="FOLDER"
    )
    host: str = setting(
        "127.0.0.1", "address to listen on; if others can reach it, give --keys or --no-auth", metavar="HOST"
    )
    port: int = setting(
        8000, "port to listen on; 0 chooses a free one and prints it", metavar="PORT", at_least=0, at_most=65535
    )
    workers: int = setting(1, "number of processes; each loads the model, and one that dies is replaced", at_least=1)
    keys: Path | None = setting(None, "file of API keys, made by `moderation keys add`", "access")
    auth: bool = setting(
        True,
        "require a key if others can reach the server; --no-auth answers everybody who can reach it",
        "access",
    )
    server: ServerOptions = part(ServerOptions)
    thresholds: Path | None = setting(None, THRESHOLDS_HELP)
    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, metavar="LABEL=NUMBER")
    log_level: LogLevel = setting("info", "how much to log to standard error")
    shadow_thresholds: Path | None = setting(
        None, "file of thresholds for the shadow, in the formats of --thresholds; default: its bundle's", "shadow"
    )

    def problems(self) -> list[str]:
        """Problems between settings: a value is invalid."""
        problems = [] if self.host else ["--host is empty, expected an address or a name"]
        if self.keys is not None and not self.auth:
            problems.append("--keys and --no-auth contradict each other; give one of them")
        if self.server.shadow.shadow is None:
            problems += no_effect(self, ["shadow_share", "shadow_thresholds"], "no effect without --shadow")
        return problems


@dataclass(frozen=True, kw_only=True)
class KeysConfig(Options):
    """Settings of `moderation keys`."""

    action: Literal["add", "list", "remove"] = setting("list", "what to do")
    keys: Path = setting(Path("keys.json"), "file of the keys' hashes; the first `add` creates it")
    name: str | None = setting(None, "who owns the key to add or remove", metavar="NAME")

    def problems(self) -> list[str]:
        """Problems between settings: a name is missing, or would have no effect."""
        if self.action == "list":
            return no_effect(self, ["name"], "has no effect on `list`, which shows every key")
        if not self.name:
            return [f"--name is missing: who owns the key to {self.action}"]
        return []


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig(Options):
    """Settings of `moderation feedback`."""

    action: Literal["export"] = setting("export", "what to do: write the decisions as a table for training")
    feedback_url: str = setting(
        FEEDBACK_URL,
        "database of the decisions, the same as for `moderation serve`",
        metavar="URL",
    )
    output: Path = setting(
        None,
        "table to write; its ending decides the format: CSV, TSV, Parquet or JSONL, also .gz .zip .zst",
        short=("-o",),
    )
    label_columns: tuple[str, ...] | None = setting(
        None,
        "labels to write; texts without a decision on every one of them are left out; default: all labels",
        metavar="LABEL",
    )
    csv_safe: bool = setting(False, CSV_SAFE_HELP)
    overwrite: bool = setting(False, "replace the file if it exists")

    def problems(self) -> list[str]:
        """Problems between settings: no file to write."""
        return [] if self.output is not None else ["--output is missing: name the table to write"]
