"""The application: routes of every dialect, health, metrics and the page, behind one gate."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from moderation.bundles import SHIPPED, read_bundle
from moderation.categories import ATTRIBUTES, Counterparts, find_counterparts
from moderation.data.languages import Languages
from moderation.errors import ModerationError
from moderation.evaluation.chosen_thresholds import ChosenThresholds
from moderation.extras import EXTRAS, require
from moderation.inference.classifier import Classifier
from moderation.serving import metrics as metrics_module
from moderation.serving import static
from moderation.serving.addresses import PublicAddress, path_of, read_proxies, read_public_url
from moderation.serving.cors import Cors
from moderation.serving.dialects import native, openai
from moderation.serving.dialects.perspective import batch, routes
from moderation.serving.dialects.perspective.languages import LanguageRule
from moderation.serving.errors import KIND_OF_STATUS, ApiError
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.keys import Keys
from moderation.serving.limits.local import Limiter
from moderation.serving.limits.rates import read_rate, require_shared_counting
from moderation.serving.metrics import Metrics
from moderation.serving.middleware import Gate
from moderation.serving.openapi import complete_description
from moderation.serving.paths import BATCH_PATHS, find_dialect, route_path
from moderation.serving.processes.stopping import stop_gracefully
from moderation.serving.service import PredictionService
from moderation.serving.shadow import report
from moderation.serving.shadow.counts import ShadowCounts
from moderation.serving.shadow.scoring import AfterAnswer, open_shadow

if TYPE_CHECKING:
    from moderation.serving.feedback.store import FeedbackStore

MAX_TEXTS = 256
MAX_BODY_BYTES = 2_000_000
BODY_TIMEOUT_S = 10.0

_ASK_THE_MODEL = ("/v1/predict", "/v1/moderations", "/comments:analyze", *BATCH_PATHS)  # the ends of their paths
_RENDER = {
    "native": native.render_problem,
    "openai": openai.render_problem,
    "perspective": routes.render_problem,
}

logger = logging.getLogger(__name__)


def create_app(
    model: str | Path = SHIPPED,
    *,
    backend: str = "auto",
    threads: int | None = None,
    thresholds: ChosenThresholds | Mapping[str, float] | str | Path | None = None,
    keys: Keys | None = None,
    rate_limit: str | None = None,
    rate_limit_url: str | None = None,
    cors: Sequence[str] = (),
    public_url: str | None = None,
    trusted_proxy: Sequence[str] = (),
    feedback_url: str | None = None,
    map: Sequence[str] = (),
    openai_images: str = "refuse",
    perspective_missing: str = "omit",
    perspective_languages: str = "refuse",
    max_wait_s: float = 5.0,
    timeout_s: float = 30.0,
    cache_texts: int = 50_000,
    max_texts: int = MAX_TEXTS,
    max_body_bytes: int = MAX_BODY_BYTES,
    body_timeout_s: float = BODY_TIMEOUT_S,
    drain_s: float | None = None,
    shadow: str | Path | None = None,
    shadow_share: float = 0.1,
    shadow_backend: str = "auto",
    shadow_thresholds: ChosenThresholds | Mapping[str, float] | str | Path | None = None,
    shadow_may_fail: bool = False,
) -> FastAPI:
    """Build the server's application, for any ASGI server. The model is loaded when the application starts.

    Args:
        model: Folder of a bundle; default: the compact English model of the package.
        backend: Engine, as of `Classifier.load`.
        threads: Processor threads; None: all that the process may use.
        thresholds: Label -> threshold, or a file of them; labels that it does not name keep the bundle's.
        keys: Who may ask; None: everybody who can reach the server.
        rate_limit: Requests of each key, such as `600/minute`; None: any number.
        rate_limit_url: Redis or Valkey in which all count together; None: this process counts for itself.
        cors: Origins whose pages may ask, such as `https://forum.example`.
        public_url: Address of the server as clients know it, such as `https://moderation.example/prefix`.
        trusted_proxy: Addresses and networks of proxies whose `X-Forwarded-*` headers are believed.
        feedback_url: URL of the database of moderators' decisions; None: they are not taken.
        map: What labels are called by OpenAI or Perspective, such as `offensive=harassment`; else as the bundle says.
        openai_images: What `/v1/moderations` does with an image beside a text: `refuse` or `ignore`.
        perspective_missing: What analyze does with attributes that the model lacks beside others: `omit` or `refuse`.
        perspective_languages: What analyze does with texts in languages that the model does not read: `refuse` them,
            or score them `as-model`.
        max_wait_s: A request that would be answered later than that is refused with 429.
        timeout_s: A request that has no answer then gets 504.
        cache_texts: Results kept, by hash; 0: none.
        max_texts: Texts in one request at most (413).
        max_body_bytes: Bytes of a request at most (413).
        body_timeout_s: Within which a request's body must have come (408).
        drain_s: On SIGTERM, be "not ready" for so long before the server stops listening; None: leave signals alone.
            It needs uvicorn, and changes nothing under another server.
        shadow: Folder of a bundle that scores some texts after they were answered, to be compared; None: none does.
        shadow_share: Share of the texts that it scores, above 0 and at most 1.
        shadow_backend: Its engine; one of torch's counts as `auto`.
        shadow_thresholds: As `thresholds`, for the shadow.
        shadow_may_fail: Go on without a shadow, and log why, where it cannot be loaded.

    Returns:
        The application; once it has started, `app.state.service` is what answers.

    Raises:
        ConfigError: a rate limit, its URL, a mapping of labels or an address that cannot be read; a shadow that cannot
            be compared.
        MissingExtraError: the package that a URL needs is not installed.
        ArtifactError: not a bundle.

    Example:
        app = create_app("model-export", keys=read_keys(Path("keys.json")))
    """
    counts = Metrics()
    bundle = read_bundle(Path(model))
    counterparts = find_counterparts(bundle.labels, bundle.mapping, map)
    heavy_requests = HeavyRequests(max_body_bytes)
    limiter = _make_limiter(rate_limit, rate_limit_url, counts) if rate_limit else None
    proxies = read_proxies(trusted_proxy)
    root_url = None if public_url is None else read_public_url(public_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        classifier = Classifier.load(model, backend=backend, threads=threads, thresholds=thresholds)
        with ExitStack() as stack:  # closes what was opened, the last first, also where something cannot be
            app.state.feedback = _open_feedback(feedback_url) if feedback_url else None
            if app.state.feedback is not None:
                stack.callback(app.state.feedback.close)
            if limiter is not None:
                stack.callback(limiter.close)
            app.state.service = PredictionService(
                classifier, counts, max_wait_s=max_wait_s, timeout_s=timeout_s, cache_texts=cache_texts
            )
            stack.callback(app.state.service.close)
            app.state.shadow = None
            if shadow is not None:
                try:
                    app.state.shadow = open_shadow(
                        shadow,
                        app.state.service,
                        ShadowCounts(counts.registry),
                        share=shadow_share,
                        backend=shadow_backend,
                        thresholds=shadow_thresholds,
                    )
                    stack.callback(app.state.shadow.close)
                except ModerationError as error:
                    if not shadow_may_fail:
                        raise
                    logger.error("this worker has no shadow", extra={"error": str(error)})
            app.state.counterparts, app.state.metrics, app.state.root_url = counterparts, counts, root_url
            app.state.languages = Languages("Detecting languages", "serve", classifier.normalise)
            app.state.language_rule = LanguageRule(
                app.state.languages, classifier.languages, perspective_languages, counts
            )
            app.state.openai_images, app.state.perspective_missing = openai_images, perspective_missing
            app.state.description = native.describe_model(app.state.service, counterparts)
            _warn_of_labels(counterparts)
            if app.state.feedback is not None:  # `moderation serve` refused what cannot be; here texts are still read
                asyncio.get_running_loop().run_in_executor(None, app.state.feedback.look)
            if drain_s is not None:
                stop_gracefully(app.state.service, drain_s)
            counts.started(classifier.bundle.name, classifier.bundle.version, classifier.backend_name)
            heavy_requests.open()
            stack.callback(heavy_requests.close)
            logger.info("ready", extra={"model_version": classifier.model_version})
            yield

    app = FastAPI(
        title="content-moderation",
        version="1",
        description="Multi-label toxicity: the server's own language, OpenAI's and the Perspective API's.",
        lifespan=lifespan,
        root_path_in_servers=root_url is None,
        servers=[{"url": root_url}] if root_url else None,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would send a key on to an address of the client's making
        telemetry={"tracing": False, "metrics": False, "logs": False},  # they may carry bodies away
    )
    for router in (
        native.make_router(max_texts),
        openai.make_router(max_texts),
        routes.make_router(list(counterparts.attributes)),
        batch.make_router(),
    ):
        app.include_router(router)
    app.include_router(report.make_router(counts))
    app.include_router(static.make_router())
    _add_health(app, counts)
    _add_error_handlers(app)
    complete_description(app, has_keys=keys is not None)
    if shadow is not None:
        app.add_middleware(AfterAnswer, shadow=lambda: app.state.shadow)
    app.add_middleware(
        Gate,
        heavy_requests=heavy_requests,
        keys=keys,
        limiter=limiter,
        metrics=counts,
        render=_render,
        check_room=lambda path: app.state.service.check_room() if path.endswith(_ASK_THE_MODEL) else None,
        model_version=lambda: str(app.state.service.classifier.model_version),
        is_leaving=lambda: bool(app.state.service.leaving),
        body_timeout_s=body_timeout_s,
        max_body_bytes=max_body_bytes,
        origins=tuple(cors),
    )
    if cors:
        app.add_middleware(Cors, origins=cors)
    if proxies or root_url:
        app.add_middleware(PublicAddress, proxies=proxies, root_path=path_of(root_url or ""))
    return app


def _warn_of_labels(found: Counterparts) -> None:
    """Say once, at the start, what the foreign dialects cannot say of this model."""
    cure = "--map LABEL=NAME"
    unknown = [label for label in found.without_category if label not in ATTRIBUTES]
    if not found.has_categories:
        logger.warning("no label has a category of OpenAI's: /v1/moderations answers 501", extra={"cure": cure})
    elif unknown:
        logger.warning("labels without a category of OpenAI's", extra={"labels": unknown, "cure": cure})
    if not found.attributes.keys() & set(ATTRIBUTES.values()):
        names = list(found.attributes)
        logger.warning(
            "no label is a production attribute of the Perspective API", extra={"attributes": names, "cure": cure}
        )


def _make_limiter(rate: str, url: str | None, counts: Metrics) -> Limiter:
    """What counts for a rate: here alone, or with others by a URL, which needs a package that a server does without.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not url:
        return Limiter(read_rate(rate))
    require_shared_counting()
    from moderation.serving.limits.shared import SharedLimiter

    return SharedLimiter(read_rate(rate), url, counts.rate_limit_fallback)


def _open_feedback(url: str) -> "FeedbackStore":
    """The store of decisions, whose package a server that keeps none does without.

    Raises:
        MissingExtraError: it is not installed.
    """
    require(EXTRAS["feedback"], ("feedback",), "Keeping moderators' decisions")
    from moderation.serving.feedback.store import FeedbackStore

    return FeedbackStore(url)


def _add_health(app: FastAPI, counts: Metrics) -> None:
    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", tags=["health"])
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], responses={"503": {"model": dict[str, str]}})
    async def readyz(request: Request) -> JSONResponse:
        """The model is loaded and warm, and the server is not about to stop; also whether decisions can be kept."""
        service: PredictionService = request.app.state.service
        store: FeedbackStore | None = request.app.state.feedback
        status = "ready" if service.is_ready else "draining" if service.draining else "broken"
        found = {"status": status, "feedback": "off" if store is None else store.state()}
        return JSONResponse(found, status_code=200 if service.is_ready else 503)

    @app.get("/metrics", tags=["health"], response_class=Response, responses={"200": {"content": {"text/plain": {}}}})
    def metrics() -> Response:  # in a thread: the counts of all workers are in files
        """Counts, in Prometheus's text format."""
        return Response(counts.render(), headers={"Content-Type": metrics_module.CONTENT_TYPE})


def _add_error_handlers(app: FastAPI) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        return _render(route_path(request.scope), _as_problem(error))

    for kind in (ApiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, refuse)


def _as_problem(error: Exception) -> ApiError:
    """A library's refusal as one of ours, without anything of what was sent."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        parts = error.errors()
        if any(part["type"] == "json_invalid" for part in parts):
            return ApiError(400, "invalid_json", "The body is not valid JSON.")
        found = dict.fromkeys(map(_describe, parts[:5]))
        return ApiError(422, "invalid_request", "; ".join(found), param=_find_field(parts[0]))
    status = getattr(error, "status_code", 500)
    kind = KIND_OF_STATUS.get(status, "invalid_request" if status < 500 else "internal")
    allow = (getattr(error, "headers", None) or {}).get("Allow")
    return ApiError(status, kind, _MESSAGES.get(status, "The request cannot be answered."), allow=allow)


_MESSAGES = {
    400: "The body cannot be read: expected JSON in UTF-8.",
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
    413: "The body is too large.",
}


def _describe(part: Any) -> str:
    """One problem of a body: where it is, what was expected; names that the sender made up are left out."""
    where = ".".join(str(step) for step in part["loc"] if isinstance(step, int) or str(step).isidentifier())
    if part["type"] == "extra_forbidden":
        return f"{'.'.join(map(str, part['loc'][:-1])) or 'body'}: a field that is not known"
    return f"{where}: {part['msg']}"


def _find_field(part: Any) -> str | None:
    """The field of a body that a problem is about, where it is one that we know."""
    known = len(part["loc"]) > 1 and part["type"] != "extra_forbidden"
    return str(part["loc"][1]) if known else None


def _render(path: str, problem: ApiError) -> Response:
    """A problem in the words of the dialect that a path belongs to."""
    return _RENDER[find_dialect(path)](problem)
