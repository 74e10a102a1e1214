"""`moderation serve`: answer HTTP requests from a bundle, in three languages."""

import ipaddress
import logging
import socket
from contextlib import closing, suppress

from moderation.bundles import SHIPPED, Bundle, read_bundle
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
from moderation.serving.options import ServerOptions
from moderation.serving.processes.listening import bind
from moderation.serving.processes.supervisor import serve_forever
from moderation.serving.processes.worker import AppPlan
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
    plan = _plan(config)
    if config.keys is None and config.auth and not _is_loopback(config.host):
        raise ConfigError(
            f"--host {config.host}: others could reach the server, and it asks nobody for a key. Cure: "
            "moderation keys add --keys keys.json --name NAME, then --keys keys.json; or --no-auth, where something "
            "in front of it decides who may ask."
        )
    with bind(config.host, config.port) as bound:
        port = bound.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        print(f"{read_bundle(plan.model).short_version} starts at http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
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
    """What the workers build their applications from, as far as it can be checked before they load a model.

    Raises:
        ModerationError: a bundle, keys or settings that cannot be.
    """
    options = config.server
    chosen = choose_thresholds(config.thresholds, config.threshold)
    bundle = read_bundle(config.model or SHIPPED)
    apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
    backend = choose_backend(bundle, options.backend)
    if config.keys is not None:
        read_keys(config.keys)
    find_counterparts(bundle.labels, bundle.mapping, options.dialects.map)
    check_limits(options.access)
    shadow_backend, shadow_chosen = _check_shadow(config, bundle)
    if options.access.public_url is not None:
        read_public_url(options.access.public_url)
    read_proxies(options.access.trusted_proxy)
    return AppPlan(
        model=bundle.path,
        options=change(
            options, backend=backend, threads=_share_cores(config), feedback_url=_choose_feedback(options.feedback_url)
        ),
        keys=config.keys,
        thresholds=chosen,
        shadow_thresholds=shadow_chosen,
        shadow_backend=shadow_backend,
    )


def _say_ready() -> None:
    """Behind the line that names the address, which nobody may read any more."""
    with suppress(OSError, ValueError):
        print("ready", flush=True)


def _share_cores(config: ServeConfig) -> int:
    """Threads of each worker; together they shall not be more than there are cores."""
    n_cores = count_cores()
    threads, fitting = config.server.threads, max(1, n_cores // config.workers)
    if config.workers > n_cores:
        logger.warning(
            "--workers %d: only %d cores may be used here; more workers take turns.", config.workers, n_cores
        )
    if threads is not None and threads > fitting:
        logger.warning(
            "--threads %d in each of %d workers: only %d cores may be used here; each takes %d.",
            threads,
            config.workers,
            n_cores,
            fitting,
        )
        return fitting
    return threads or fitting


def _check_shadow(config: ServeConfig, main: Bundle) -> tuple[str, ChosenThresholds | None]:
    """Engine and thresholds of the shadow, where there is one.

    Raises:
        ModerationError: a bundle, or thresholds, that cannot be compared with the main one.
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
    """The database of decisions, where it can keep one; None: none are taken.

    Raises:
        ModerationError: it would refuse the first decision, with the cure; or its package is not installed and somebody
            named a database.
    """
    if not url:
        logger.info("No decisions of moderators are taken (suggestscore answers 404), since --feedback-url is empty.")
        return None
    try:
        require(EXTRAS["feedback"], ("feedback",), "Keeping moderators' decisions")
    except MissingExtraError as error:
        if url != ServerOptions().feedback_url:
            raise
        logger.warning("No decisions of moderators are taken (suggestscore answers 404). %s", error)
        return None
    from moderation.serving.feedback.store import FeedbackStore

    with closing(FeedbackStore(url)) as store:
        try:
            store.check()
        except ArtifactError as error:
            raise ArtifactError(
                f"--feedback-url: {error} Or take no decisions of moderators: --feedback-url ''"
            ) from None
    return url


def _is_loopback(host: str) -> bool:
    """Whether a host name means this machine alone, whatever it resolves to."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):  # the latter for what is no name of a host; `bind` says so
        return False
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)
