"""Settings of the server's application, for `moderation serve` and for programs that call `create_app`.

Light: nothing here needs the server's packages, so that `moderation serve --help` starts without them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moderation.inference.options import Backend
from moderation.options import Options, part, setting

FEEDBACK_URL = "sqlite:///moderation-feedback.db"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")  # others match no page


@dataclass(frozen=True, kw_only=True)
class AccessOptions(Options):
    """How often clients may send requests, from which pages, and under which address they know the server."""

    rate_limit: str | None = setting(
        None,
        "requests allowed per key and worker, such as 600/minute; without keys, per address",
        metavar="RATE",
    )
    rate_limit_url: str | None = setting(
        None,
        "Redis or Valkey that counts requests for --rate-limit across workers and machines: redis://HOST:6379/0, "
        "rediss://... for TLS, or unix:///SOCKET; default: each worker counts on its own",
        metavar="URL",
    )
    cors: tuple[str, ...] = setting(
        (),
        "web origins whose pages may send requests, such as https://forum.example",
        metavar="ORIGIN",
    )
    public_url: str | None = setting(
        None,
        "address of the server as clients know it, such as https://moderation.example/prefix, for the discovery "
        "document behind a proxy; default: the address in each request",
        metavar="URL",
    )
    trusted_proxy: tuple[str, ...] = setting(
        (),
        "address or network of a proxy whose X-Forwarded-For, -Proto, -Host and -Prefix are trusted; default: none",
        metavar="ADDRESS",
    )

    def problems(self) -> list[str]:
        """A Redis for counting but no limit, and origins that no browser sends."""
        problems = []
        if self.rate_limit_url and not self.rate_limit:
            problems.append("--rate-limit-url has no effect without --rate-limit, such as 600/minute")
        problems += [
            f"--cors is {origin}, expected an origin as browsers send it, such as https://forum.example: in lower "
            "case, without a path or a slash at the end"
            for origin in self.cors
            if not _ORIGIN.fullmatch(origin)
        ]
        return problems


@dataclass(frozen=True, kw_only=True)
class DialectOptions(Options):
    """How the APIs of OpenAI and Perspective are answered with a model that is not theirs."""

    map: tuple[str, ...] = setting(
        (),
        "OpenAI's or Perspective's name for a label, such as offensive=harassment or offensive=TOXICITY; default: the "
        "names in the bundle",
        metavar="LABEL=NAME",
    )
    openai_images: Literal["refuse", "ignore"] = setting(
        "refuse", "what /v1/moderations does with an image that comes with a text; images are never looked at"
    )
    perspective_missing: Literal["omit", "refuse"] = setting(
        "omit",
        "what analyze does if the model has only some of the requested attributes: leave out the others and list them, "
        "or answer 400",
    )
    perspective_languages: Literal["refuse", "as-model"] = setting(
        "refuse",
        "what analyze does with a text in a language that the model does not read: answer 400, or score it "
        "anyway and report that in the header X-Model-Language",
    )


@dataclass(frozen=True, kw_only=True)
class ShadowOptions(Options):
    """A second bundle to try out next to the one that answers."""

    shadow: Path | None = setting(
        None,
        "bundle to try out next to --model: it scores a share of the texts after they were answered, and /v1/shadow "
        "and /metrics report where it would decide differently",
        metavar="FOLDER",
    )
    shadow_share: float = setting(
        0.1,
        "share of the texts that the shadow scores, above 0 and at most 1; the same text is always in it, or never",
        above=0,
        at_most=1,
    )


@dataclass(frozen=True, kw_only=True)
class LoadOptions(Options):
    """How much one request, and all requests together, may cost."""

    max_wait_s: float = setting(
        5.0, "answer 429 at once if a request would wait in the queue for longer than this", above=0
    )
    timeout_s: float = setting(30.0, "answer 504 if there is no answer after this time", above=0)
    max_texts: int = setting(256, "maximum number of texts in one request", at_least=1)
    max_body_bytes: int = setting(2_000_000, "largest body of a request", at_least=1)
    body_timeout_s: float = setting(10.0, "time within which the whole body must arrive", above=0)
    cache_texts: int = setting(
        50_000, "results to keep for texts that are sent again, found by their hash; 0 keeps none", at_least=0
    )
    drain_s: float | None = setting(
        1.0, "after SIGTERM, report not ready for this long, then stop listening", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class ServerOptions(Options):
    """Every setting of the application; the defaults are those of `moderation serve`.

    In a program, `feedback_url=None` accepts no decisions, and `drain_s=None` does not touch the process's signals.
    """

    backend: Backend = setting("auto", "engine; auto uses the fastest one that is in the bundle and installed")
    threads: int | None = setting(
        None, "processor threads of each worker; default: all cores, divided among the workers", at_least=1
    )
    access: AccessOptions = part(AccessOptions, "access")
    feedback_url: str | None = setting(
        FEEDBACK_URL,
        "database for moderators' decisions: sqlite:///FILE or postgresql+psycopg://...; '' accepts no decisions",
        "access",
        metavar="URL",
        empty=True,
    )
    dialects: DialectOptions = part(DialectOptions, "OpenAI's and Perspective's APIs")
    shadow: ShadowOptions = part(ShadowOptions, "shadow")
    load: LoadOptions = part(LoadOptions, "load")


EMBEDDED = ServerOptions(feedback_url=None, load=LoadOptions(drain_s=None))
"""Defaults inside another program: nothing is stored, and no signal is handled."""
