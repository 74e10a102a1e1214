"""`moderation serve`: answer HTTP requests with a bundle, in three APIs."""

import ipaddress
import logging
import socket
from contextlib import closing, suppress
from pathlib import Path

from moderation.bundles import AUTO, Bundle, find_models, read_bundle
from moderation.categories import find_counterparts
from moderation.config import ServeConfig
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError, MissingExtraError
from moderation.evaluation.chosen_thresholds import ChosenThresholds, apply_chosen, choose_thresholds
from moderation.extras import EXTRAS, require
from moderation.inference.backends import choose_backend
from moderation.options import change
from moderation.serving.addresses import read_proxies, read_public_url
from moderation.serving.keys import read_keys
from moderation.serving.limits.rates import check_limits
from moderation.serving.options import FEEDBACK_URL
from moderation.serving.processes.listening import bind
from moderation.serving.processes.supervisor import serve_forever
from moderation.serving.processes.worker import AppPlan
from moderation.serving.shadow.scoring import choose_shadow_backend, find_common_labels

logger = logging.getLogger(__name__)

STOP_S = 5
"""Seconds beyond the longest request for answering, at the end, the requests in progress."""


def serve(config: ServeConfig) -> int:
    """Check as much as possible, bind the address, and run the workers until they are told to stop.

    Returns:
        0 after SIGTERM or Ctrl-C; 1 if the workers could not start.

    Raises:
        ModerationError: a bundle, keys or settings are invalid, or the address is not available.
    """
    require(("tokenizers", "py3langid", *EXTRAS["serve"]), ("onnx", "serve"))  # the workers load them
    plan = _plan(config)
    if config.keys is None and config.auth and not _is_loopback(config.host):
        raise ConfigError(
            f"--host {config.host}: others could reach the server, and it requires no key. Make a key with "
            "`moderation keys add --keys keys.json --name NAME`, and add --keys keys.json; or use --no-auth, if "
            "something in front of the server controls access."
        )
    with bind(config.host, config.port) as bound:
        port = bound.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        names = " and ".join(read_bundle(folder).short_version for folder in find_models(plan.model))
        print(f"{names} starts at http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
        return serve_forever(
            plan,
            host=config.host,
            bound=bound,
            workers=config.workers,
            stop_within_s=plan.options.load.timeout_s + STOP_S,
            log_level=config.log_level,
            on_ready=_say_ready,
        )


def _plan(config: ServeConfig) -> AppPlan:
    """The plan from which workers build their applications, checked as far as possible before they load a model.

    Raises:
        ModerationError: a bundle, keys or settings are invalid.
    """
    options = config.server
    chosen = choose_thresholds(config.thresholds, config.threshold)
    model = config.model or Path(AUTO)
    bundles = [read_bundle(folder) for folder in find_models(model)]
    for bundle in bundles:
        apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
    engines = {choose_backend(bundle, options.backend) for bundle in bundles}
    bundle = bundles[0]
    if config.keys is not None:
        read_keys(config.keys)
    find_counterparts(bundle.labels, bundle.mapping, options.dialects.map)
    check_limits(options.access)
    shadow_backend, shadow_chosen = _check_shadow(config, bundle)
    if options.access.public_url is not None:
        read_public_url(options.access.public_url)
    read_proxies(options.access.trusted_proxy)
    return AppPlan(
        model=model,
        options=change(
            options,
            backend=engines.pop() if len(engines) == 1 else options.backend,
            threads=_share_cores(config),
            feedback_url=_choose_feedback(options.feedback_url),
        ),
        keys=config.keys,
        thresholds=chosen,
        shadow_thresholds=shadow_chosen,
        shadow_backend=shadow_backend,
    )


def _say_ready() -> None:
    """Printed after the line with the address; nobody may be reading any more."""
    with suppress(OSError, ValueError):
        print("ready", flush=True)


def _share_cores(config: ServeConfig) -> int:
    """Threads of each worker; together no more than there are cores."""
    n_cores = count_cores()
    threads, fitting = config.server.threads, max(1, n_cores // config.workers)
    if config.workers > n_cores:
        logger.warning(
            "--workers %d: only %d cores are available; the workers will share them.", config.workers, n_cores
        )
    if threads is not None and threads > fitting:
        logger.warning(
            "--threads %d in each of %d workers: only %d cores are available; each uses %d.",
            threads,
            config.workers,
            n_cores,
            fitting,
        )
        return fitting
    return threads or fitting


def _check_shadow(config: ServeConfig, main: Bundle) -> tuple[str, ChosenThresholds | None]:
    """Engine and thresholds of the shadow, if there is one.

    Raises:
        ModerationError: its bundle or thresholds cannot be compared with the main one.
    """
    folder = config.server.shadow.shadow
    if folder is None:
        return "auto", None
    bundle = read_bundle(folder)
    find_common_labels(main, bundle)
    chosen = choose_thresholds(config.shadow_thresholds, ())
    apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
    return choose_shadow_backend(bundle, config.server.backend), chosen


def _choose_feedback(url: str | None) -> str | None:
    """The database of decisions, if it can store them; None: no decisions are accepted.

    Raises:
        ModerationError: it would refuse the first decision, or its package is missing although a database was named.
    """
    if not url:
        logger.info("Moderators' decisions are not accepted (suggestscore answers 404), since --feedback-url is empty.")
        return None
    try:
        require(EXTRAS["feedback"], ("feedback",), "Storing moderators' decisions")
    except MissingExtraError as error:
        if url != FEEDBACK_URL:
            raise
        logger.warning("Moderators' decisions are not accepted (suggestscore answers 404). %s", error)
        return None
    from moderation.serving.feedback.store import FeedbackStore

    with closing(FeedbackStore(url)) as store:
        try:
            store.check()
        except ArtifactError as error:
            raise ArtifactError(
                f"--feedback-url: {error} Or run without storing moderators' decisions: --feedback-url ''"
            ) from None
    return url


def _is_loopback(host: str) -> bool:
    """Whether a host name means only this machine, with all addresses that it resolves to."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):  # ValueError: not a host name; `bind` reports it
        return False
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)
