"""Settings of the verbs around the server: serve, keys, feedback."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.inference.options import THRESHOLD_HELP, THRESHOLDS_HELP, Backend
from moderation.logs import LogLevel
from moderation.options import Options, no_effect, setting
from moderation.tables.options import CSV_SAFE_HELP

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")  # another one matches no page


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Options):
    """Settings of `moderation serve`."""

    model: Path | None = setting(
        None, "folder of a bundle; default: the included English model", short=("-m",), metavar="FOLDER"
    )
    host: str = setting(
        "127.0.0.1", "address to listen on; one that others can reach needs --keys or --no-auth", metavar="HOST"
    )
    port: int = setting(
        8000, "port to listen on; 0 takes any free one and prints it", metavar="PORT", at_least=0, at_most=65535
    )
    workers: int = setting(1, "processes; each loads the model, and one that dies is replaced", at_least=1)
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds and that is installed")
    threads: int | None = setting(
        None, "processor threads of each worker; default: all cores, divided among the workers", at_least=1
    )
    thresholds: Path | None = setting(None, THRESHOLDS_HELP)
    threshold: tuple[str, ...] = setting((), THRESHOLD_HELP, metavar="LABEL=NUMBER")
    log_level: LogLevel = setting("info", "how much to say on standard error")

    keys: Path | None = setting(None, "file of API keys, made by `moderation keys add`", "access")
    auth: bool = setting(
        True,
        "ask for a key where others can reach the server; --no-auth answers everybody who can reach it",
        "access",
    )
    rate_limit: str | None = setting(
        None,
        "requests allowed per key and worker, such as 600/minute; without keys: per address",
        "access",
        metavar="RATE",
        app=True,
    )
    rate_limit_url: str | None = setting(
        None,
        "Redis or Valkey in which all workers and machines count for --rate-limit together: redis://HOST:6379/0, "
        "rediss://... for TLS, or unix:///SOCKET; default: each worker counts for itself",
        "access",
        metavar="URL",
        app=True,
    )
    cors: tuple[str, ...] = setting(
        (),
        "web origins whose pages may send requests, such as https://forum.example",
        "access",
        metavar="ORIGIN",
        app=True,
    )
    public_url: str | None = setting(
        None,
        "address of the server as clients know it, such as https://moderation.example/prefix, for the discovery "
        "document behind a proxy; default: as each request says",
        "access",
        metavar="URL",
        app=True,
    )
    trusted_proxy: tuple[str, ...] = setting(
        (),
        "address or network of a proxy whose X-Forwarded-For, -Proto, -Host and -Prefix are believed; default: none",
        "access",
        metavar="ADDRESS",
        app=True,
    )
    feedback_url: str | None = setting(
        "sqlite:///moderation-feedback.db",
        "database for moderators' decisions: sqlite:///FILE or postgresql+psycopg://...; '' accepts none",
        "access",
        metavar="URL",
        app=True,
        empty=True,
    )

    map: tuple[str, ...] = setting(
        (),
        "what OpenAI or Perspective call a label, such as offensive=harassment or offensive=TOXICITY; default: as the "
        "bundle says",
        "dialects",
        metavar="LABEL=NAME",
        app=True,
    )
    openai_images: Literal["refuse", "ignore"] = setting(
        "refuse",
        "what /v1/moderations does with an image beside a text; no image is ever looked at",
        "dialects",
        app=True,
    )
    perspective_missing: Literal["omit", "refuse"] = setting(
        "omit",
        "what analyze does where the model has only some of the attributes asked for: leave out the others and list "
        "them, or answer 400",
        "dialects",
        app=True,
    )
    perspective_languages: Literal["refuse", "as-model"] = setting(
        "refuse",
        "what analyze does with a text in a language that the model does not read: answer 400, or score it all the "
        "same and say so in the header X-Model-Language",
        "dialects",
        app=True,
    )

    shadow: Path | None = setting(
        None,
        "bundle to try out beside --model: it scores a share of the texts after they were answered, and /v1/shadow and "
        "/metrics tell what it would decide otherwise",
        "shadow",
        metavar="FOLDER",
        app=True,
    )
    shadow_share: float = setting(
        0.1,
        "share of the texts that the shadow scores, above 0 and at most 1; a text is always in it, or never",
        "shadow",
        app=True,
        above=0,
        at_most=1,
    )
    shadow_thresholds: Path | None = setting(
        None, "file of thresholds for the shadow to decide by, as of --thresholds; default: its bundle's", "shadow"
    )

    max_wait_s: float = setting(
        5.0,
        "answer 429 at once where a request would wait in the queue for longer than this",
        "load",
        app=True,
        above=0,
    )
    timeout_s: float = setting(30.0, "answer 504 where there is no answer after this time", "load", app=True, above=0)
    max_texts: int = setting(256, "most texts in one request", "load", app=True, at_least=1)
    max_body_bytes: int = setting(2_000_000, "largest body of a request", "load", app=True, at_least=1)
    body_timeout_s: float = setting(10.0, "time within which the whole body must arrive", "load", app=True, above=0)
    cache_texts: int = setting(
        50_000,
        "results to keep for texts that come again, found by their hash; 0 keeps none",
        "load",
        app=True,
        at_least=0,
    )
    drain_s: float = setting(
        1.0, "after SIGTERM, report not ready for this long, then stop listening", "load", app=True, at_least=0
    )

    def problems(self) -> list[str]:
        """Problems between settings: a value that cannot be."""
        problems = [] if self.host else ["--host is empty, expected an address or a name"]
        if self.keys is not None and not self.auth:
            problems.append("--keys and --no-auth contradict each other; give one of them")
        if self.rate_limit_url and not self.rate_limit:
            problems.append("--rate-limit-url has no effect without --rate-limit, such as 600/minute")
        if self.shadow is None:
            problems += no_effect(self, ["shadow_share", "shadow_thresholds"], "no effect without --shadow")
        problems += [
            f"--cors is {origin}, expected origins by name as browsers send them, such as https://forum.example: in "
            "small letters, without a path or a slash at the end"
            for origin in self.cors
            if not _ORIGIN.fullmatch(origin)
        ]
        return problems


@dataclass(frozen=True, kw_only=True)
class KeysConfig(Options):
    """Settings of `moderation keys`."""

    action: Literal["add", "list", "remove"] = setting("list", "what to do")
    keys: Path = setting(Path("keys.json"), "file of the keys' hashes; the first add makes it")
    name: str | None = setting(None, "whose key it is: the one to add or remove", metavar="NAME")

    def problems(self) -> list[str]:
        """Problems between settings: no name where one is needed, or one where it would do nothing."""
        if self.action == "list":
            return no_effect(self, ["name"], "has no effect on `list`, which shows every key")
        if not self.name:
            return [f"--name is missing: whose key to {self.action}"]
        return []


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig(Options):
    """Settings of `moderation feedback`."""

    action: Literal["export"] = setting("export", "what to do: write the decisions as a table for training")
    feedback_url: str = setting(
        "sqlite:///moderation-feedback.db",
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
        "labels to write; a text without a decision on every one of them is left out; default: all labels",
        metavar="LABEL",
    )
    csv_safe: bool = setting(False, CSV_SAFE_HELP)
    overwrite: bool = setting(False, "replace the file where it exists")

    def problems(self) -> list[str]:
        """Problems between settings: no file to write."""
        return [] if self.output is not None else ["--output is missing: name the table to write"]
