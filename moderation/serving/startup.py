"""From settings to a running application: what is opened at the start is closed at the end, in reverse order."""

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from moderation.categories import ATTRIBUTES, Counterparts
from moderation.data.languages import Languages
from moderation.errors import ModerationError
from moderation.evaluation.chosen_thresholds import GivenThresholds
from moderation.extras import EXTRAS, require
from moderation.inference.classifier import Classifier
from moderation.serving.dialects import native
from moderation.serving.dialects.perspective.languages import LanguageRule
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.limits.local import Limiter
from moderation.serving.metrics import Metrics
from moderation.serving.options import ServerOptions
from moderation.serving.processes.stopping import stop_gracefully
from moderation.serving.service import PredictionService
from moderation.serving.shadow.counts import ShadowCounts
from moderation.serving.shadow.scoring import Shadow, open_shadow
from moderation.serving.state import AppState, set_state

if TYPE_CHECKING:
    from moderation.serving.feedback.writer import DecisionWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Startup:
    """Everything that is known before the model is loaded.

    Args:
        model: Folder of the bundle.
        options: Settings.
        thresholds: Thresholds that replace the bundle's; None: the bundle's own.
        shadow_thresholds: The same for the shadow.
        shadow_backend: Engine of the shadow.
        shadow_may_fail: Whether to continue without a shadow that cannot be loaded.
        counterparts: What other APIs call the labels.
        root_url: Address of the server as clients know it; None: taken from each request.
        metrics: Where to count.
        limiter: Limits the requests of each key; None: no limit.
        heavy_requests: Where large requests run.
    """

    model: Path
    options: ServerOptions
    thresholds: GivenThresholds
    shadow_thresholds: GivenThresholds
    shadow_backend: str
    shadow_may_fail: bool
    counterparts: Counterparts
    root_url: str | None
    metrics: Metrics
    limiter: Limiter | None
    heavy_requests: HeavyRequests

    @asynccontextmanager
    async def run(self, app: FastAPI) -> AsyncIterator[None]:
        """The application's lifespan: load the model, answer, close everything.

        Raises:
            ModerationError: an invalid bundle, thresholds, shadow or database.
        """
        options = self.options
        classifier = Classifier.load(
            self.model, backend=options.backend, threads=options.threads, thresholds=self.thresholds
        )
        with ExitStack() as stack:  # closes everything even if something cannot be opened
            state = self._open_all(classifier, stack)
            set_state(app, state)
            _warn_of_labels(self.counterparts)
            if state.feedback is not None:  # only logs problems: texts are scored even if no decision can be stored
                threading.Thread(target=state.feedback.store.look, name="feedback look", daemon=True).start()
            if options.load.drain_s is not None:
                stop_gracefully(state.service, options.load.drain_s)
            for model in classifier.models:
                self.metrics.started(model.bundle.name, model.bundle.version, model.backend_name)
            self.heavy_requests.open()
            stack.callback(self.heavy_requests.close)
            logger.info("ready", extra={"model_version": classifier.model_version})
            yield

    def _open_all(self, classifier: Classifier, stack: ExitStack) -> AppState:
        options, load = self.options, self.options.load
        feedback = _open_feedback(options.feedback_url) if options.feedback_url else None
        if feedback is not None:
            stack.callback(feedback.store.close)
            stack.callback(feedback.close)
        if self.limiter is not None:
            stack.callback(self.limiter.close)
        service = PredictionService(
            classifier,
            self.metrics,
            max_wait_s=load.max_wait_s,
            timeout_s=load.timeout_s,
            cache_texts=load.cache_texts,
        )
        stack.callback(service.close)
        shadow = self._open_shadow(service)
        if shadow is not None:
            stack.callback(shadow.close)
        languages = classifier.recogniser or Languages("Detecting languages", "serve", classifier.normalise)
        return AppState(
            service=service,
            metrics=self.metrics,
            dialects=options.dialects,
            counterparts=self.counterparts,
            languages=languages,
            language_rule=LanguageRule(
                languages, classifier.languages, options.dialects.perspective_languages, self.metrics
            ),
            root_url=self.root_url,
            feedback=feedback,
            shadow=shadow,
            description=native.render_model(service, self.counterparts),
        )

    def _open_shadow(self, service: PredictionService) -> Shadow | None:
        options = self.options.shadow
        if options.shadow is None:
            return None
        try:
            return open_shadow(
                options.shadow,
                service,
                ShadowCounts(self.metrics.registry),
                share=options.shadow_share,
                backend=self.shadow_backend,
                thresholds=self.shadow_thresholds,
            )
        except ModerationError as error:
            if not self.shadow_may_fail:
                raise
            logger.error("this worker has no shadow", extra={"error": str(error)})
            return None


def _open_feedback(url: str) -> "DecisionWriter":
    """The writer of decisions, which needs an optional package.

    Raises:
        MissingExtraError: that package is not installed.
    """
    require(EXTRAS["feedback"], ("feedback",), "Storing moderators' decisions")
    from moderation.serving.feedback.store import FeedbackStore
    from moderation.serving.feedback.writer import DecisionWriter

    return DecisionWriter(FeedbackStore(url))


def _warn_of_labels(found: Counterparts) -> None:
    """Log once, at the start, which labels the other APIs cannot report."""
    cure = "--map LABEL=NAME"
    unknown = [label for label in found.without_category if label not in ATTRIBUTES]
    if not found.has_categories:
        logger.warning("no label maps to an OpenAI category: /v1/moderations answers 501", extra={"cure": cure})
    elif unknown:
        logger.warning("labels without an OpenAI category", extra={"labels": unknown, "cure": cure})
    if not found.attributes.keys() & set(ATTRIBUTES.values()):
        names = list(found.attributes)
        logger.warning(
            "no label maps to a production attribute of the Perspective API", extra={"attributes": names, "cure": cure}
        )
