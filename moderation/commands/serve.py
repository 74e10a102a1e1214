"""`moderation serve`: answer HTTP requests from a bundle, in three languages."""

import ipaddress
import logging
import socket
from contextlib import closing, suppress
from dataclasses import fields
from typing import Any

from moderation.bundles import SHIPPED, Bundle, read_bundle
from moderation.categories import find_counterparts
from moderation.config import ServeConfig
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.evaluation.chosen_thresholds import apply_chosen, choose_thresholds
from moderation.extras import EXTRAS, require
from moderation.inference.backends import choose_backend
from moderation.serving.addresses import read_proxies, read_public_url
from moderation.serving.keys import read_keys
from moderation.serving.limits.rates import read_rate, require_shared_counting
from moderation.serving.processes.supervisor import bind, serve_forever
from moderation.serving.shadow.scoring import choose_shadow_backend, find_common_labels

logger = logging.getLogger(__name__)

STOP_S = 5
"""Beyond the longest request, within which what is in flight is answered at the end."""


def serve(config: ServeConfig) -> int:
    """Check what can be checked, bind the address, run the workers until they are told to stop.

    Returns:
        0 after SIGTERM or Ctrl-C; 1 where the workers could not start.

    Raises:
        ModerationError: a bundle, keys or settings that cannot be; an address that cannot be had.
    """
    require(("tokenizers", "py3langid", *EXTRAS["serve"]), ("onnx", "serve"))  # the workers load them
    chosen = choose_thresholds(config.thresholds, config.threshold)
    bundle = read_bundle(config.model or SHIPPED)
    apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
    backend = choose_backend(bundle, config.backend)
    if config.keys is not None:
        read_keys(config.keys)
    find_counterparts(bundle.labels, bundle.mapping, config.map)
    if config.rate_limit:
        read_rate(config.rate_limit)
    if config.rate_limit_url:
        require_shared_counting()
        from moderation.serving.limits.shared import check_rate_limit_url

        check_rate_limit_url(config.rate_limit_url)
    shadow = _choose_shadow(config, bundle)
    if config.public_url is not None:
        read_public_url(config.public_url)
    read_proxies(config.trusted_proxy)
    feedback_url = _choose_feedback(config)
    if config.keys is None and config.auth and not _is_loopback(config.host):
        raise ConfigError(
            f"--host {config.host}: others could reach the server, and it asks nobody for a key. Cure: "
            "moderation keys add --keys keys.json --name NAME, then --keys keys.json; or --no-auth, where something "
            "in front of it decides who may ask."
        )
    settings = {field.name: getattr(config, field.name) for field in fields(config) if field.metadata.get("app")}
    settings |= {"model": bundle.path, "backend": backend, "keys": config.keys, "thresholds": chosen}
    settings |= {"feedback_url": feedback_url, **shadow}
    settings["threads"] = _share_cores(config)
    with bind(config.host, config.port) as bound:
        port = bound.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        print(f"{bundle.short_version} starts at http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
        return serve_forever(
            settings,
            host=config.host,
            port=port,
            workers=config.workers,
            stop_within_s=config.timeout_s + STOP_S,
            socket_to_use=bound,
            log_level=config.log_level,
            on_ready=_say_ready,
        )


def _say_ready() -> None:
    """Behind the line that names the address, which nobody may read any more."""
    with suppress(OSError, ValueError):
        print("ready", flush=True)


def _share_cores(config: ServeConfig) -> int:
    """Threads of each worker; together they shall not be more than there are cores."""
    n_cores = count_cores()
    fitting = max(1, n_cores // config.workers)
    if config.workers > n_cores:
        logger.warning(
            "--workers %d: only %d cores may be used here; more workers take turns.", config.workers, n_cores
        )
    if config.threads is not None and config.threads > fitting:
        logger.warning(
            "--threads %d in each of %d workers: only %d cores may be used here; each takes %d.",
            config.threads,
            config.workers,
            n_cores,
            fitting,
        )
        return fitting
    return config.threads or fitting


def _choose_shadow(config: ServeConfig, main: Bundle) -> dict[str, Any]:
    """What `create_app` is told of the shadow, as far as it can be checked before a worker loads it.

    Raises:
        ModerationError: a bundle, or thresholds, that cannot be compared with the main one.
    """
    if config.shadow is None:
        return {}
    bundle = read_bundle(config.shadow)
    find_common_labels(main, bundle)
    chosen = choose_thresholds(config.shadow_thresholds, ())
    apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
    backend = choose_shadow_backend(bundle, config.backend)
    return {"shadow": bundle.path, "shadow_backend": backend, "shadow_thresholds": chosen}


def _choose_feedback(config: ServeConfig) -> str | None:
    """The database of decisions, where it can keep one; None: none are taken.

    Raises:
        ModerationError: it would refuse the first decision, with the cure; or its package is not installed and somebody
            named a database.
    """
    default = {field.name: field.default for field in fields(ServeConfig)}["feedback_url"]
    if not config.feedback_url:
        logger.info("No decisions of moderators are taken (suggestscore answers 404), since --feedback-url is empty.")
        return None
    try:
        require(EXTRAS["feedback"], ("feedback",), "Keeping moderators' decisions")
    except MissingExtraError as error:
        if config.feedback_url != default:
            raise
        logger.warning("No decisions of moderators are taken (suggestscore answers 404). %s", error)
        return None
    from moderation.serving.feedback.store import FeedbackStore

    with closing(FeedbackStore(config.feedback_url)) as store:
        try:
            store.check()
        except ArtifactError as error:
            raise ArtifactError(
                f"--feedback-url: {error} Or take no decisions of moderators: --feedback-url ''"
            ) from None
    return config.feedback_url


def _is_loopback(host: str) -> bool:
    """Whether a host name means this machine alone, whatever it resolves to."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):  # the latter for what is no name of a host; `bind` says so
        return False
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)
