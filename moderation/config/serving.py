"""Settings of the verbs around the server: serve, keys, feedback."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from moderation.config.declaring import Backend, raise_problems, setting


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of `moderation serve`."""

    model: Path | None = setting(
        None, "folder of a bundle; default: the compact English model of the package", short=("-m",)
    )
    host: str = setting("127.0.0.1", "address to listen on; beyond this machine only with --keys, or --no-auth")
    port: int = setting(8000, "port to listen on; 0: any that is free, which is printed")
    workers: int = setting(1, "processes; each holds the model, and one that dies is replaced")
    backend: Backend = setting("auto", "engine; auto takes the fastest that the bundle holds and that is installed")
    threads: int | None = setting(None, "processor threads of each worker; default: all cores, shared among workers")

    keys: Path | None = setting(None, "file of API keys, as `moderation keys` makes it", "access")
    auth: bool = setting(
        True, "beyond this machine, ask for a key; --no-auth: answer everybody who can reach the server", "access"
    )
    rate_limit: str | None = setting(
        None,
        "requests of each key in each worker, such as 600/minute; without keys: of each address",
        "access",
        app=True,
    )
    cors: tuple[str, ...] = setting(
        (), "origins whose pages may ask, such as https://forum.example", "access", app=True
    )
    feedback_url: str | None = setting(
        "sqlite:///moderation-feedback.db",
        "database of moderators' decisions (SQLAlchemy's form; postgresql+psycopg://...); '': do not take any",
        "access",
        app=True,
    )

    map: tuple[str, ...] = setting(
        (),
        "what a label is called by OpenAI or Perspective, such as offensive=harassment or offensive=TOXICITY; "
        "default: as the bundle says",
        "dialects",
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
        "what analyze does where it is asked for attributes of which the model has some: leave out the others and list "
        "them, or answer 400",
        "dialects",
        app=True,
    )

    max_wait_s: float = setting(5.0, "answer 429 to what would wait longer than so many seconds", "load", app=True)
    timeout_s: float = setting(30.0, "answer 504 to what has no answer after so many seconds", "load", app=True)
    max_texts: int = setting(256, "texts of one request", "load", app=True)
    max_body_bytes: int = setting(2_000_000, "bytes of one request", "load", app=True)
    body_timeout_s: float = setting(10.0, "seconds within which a request's body must have come", "load", app=True)
    cache_texts: int = setting(
        50_000, "results kept for texts that come again, by hash alone; 0: none", "load", app=True
    )
    drain_s: float = setting(
        1.0, "on SIGTERM, be not ready for so many seconds before listening ends", "load", app=True
    )

    def __post_init__(self) -> None:
        """Check values that need no file.

        Raises:
            ConfigError: a value that cannot be.
        """
        problems = [
            f"--{name.replace('_', '-')} is {getattr(self, name)}, expected {rule}"
            for name, rule, fine in (
                ("port", "0 to 65535", 0 <= self.port <= 65535),
                ("workers", "1 or more", self.workers >= 1),
                ("threads", "1 or more", self.threads is None or self.threads >= 1),
                ("backend", " | ".join(get_args(Backend)), self.backend in get_args(Backend)),
                ("openai_images", "refuse | ignore", self.openai_images in ("refuse", "ignore")),
                ("perspective_missing", "omit | refuse", self.perspective_missing in ("omit", "refuse")),
                ("max_wait_s", "more than 0", 0 < self.max_wait_s < math.inf),
                ("timeout_s", "more than 0", 0 < self.timeout_s < math.inf),
                ("max_texts", "1 or more", self.max_texts >= 1),
                ("max_body_bytes", "1 or more", self.max_body_bytes >= 1),
                ("body_timeout_s", "more than 0", 0 < self.body_timeout_s < math.inf),
                ("cache_texts", "0 or more", self.cache_texts >= 0),
                ("drain_s", "0 or more", 0 <= self.drain_s < math.inf),
            )
            if not fine
        ]
        if self.keys is not None and not self.auth:
            problems.append("--keys and --no-auth contradict each other; give one of them")
        if "*" in self.cors:
            problems.append("--cors is *, expected origins by name, such as https://forum.example")
        raise_problems(problems)


@dataclass(frozen=True, kw_only=True)
class KeysConfig:
    """Settings of `moderation keys`."""

    action: Literal["add", "list", "remove"] = setting("list", "what to do")
    keys: Path = setting(Path("keys.json"), "file of the keys' hashes; made by the first add")
    name: str | None = setting(None, "of the key to add or remove")

    def __post_init__(self) -> None:
        """Check values that need no file.

        Raises:
            ConfigError: no name where one is needed.
        """
        missing = self.action != "list" and not self.name
        raise_problems([f"--name is missing: whose key to {self.action}"] if missing else [])


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """Settings of `moderation feedback`."""

    action: Literal["export"] = setting("export", "what to do: write the decisions as a table for training")
    feedback_url: str = setting(
        "sqlite:///moderation-feedback.db", "database of moderators' decisions, as `moderation serve` was given it"
    )
    output: Path = setting(
        None,
        "table to write, in the format of its ending: CSV, TSV, Parquet or JSONL, also .gz .zip .zst",
        short=("-o",),
    )
    label_columns: tuple[str, ...] | None = setting(
        None, "labels to write; texts about which one of them was never decided are left out; default: all"
    )
    overwrite: bool = setting(False, "replace the file where it exists")

    def __post_init__(self) -> None:
        """Check values that need no file.

        Raises:
            ConfigError: no file to write.
        """
        raise_problems([] if self.output is not None else ["--output is missing: name the table to write"])
