"""The application: the routes of every API, health, metrics and the page, behind one gate."""

from pathlib import Path
from typing import Any, Literal, TypedDict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from moderation.bundles import AUTO, find_models, read_bundle
from moderation.categories import Counterparts, find_counterparts
from moderation.evaluation.chosen_thresholds import GivenThresholds
from moderation.options import change
from moderation.serving import metrics as metrics_module
from moderation.serving import static
from moderation.serving.addresses import PublicAddress, path_of, read_proxies, read_public_url
from moderation.serving.admission import Admission
from moderation.serving.cors import Cors
from moderation.serving.dialects.registry import DIALECTS, render_problem
from moderation.serving.errors import ApiError, as_problem
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.keys import Keys
from moderation.serving.limits.rates import make_limiter
from moderation.serving.metrics import Metrics
from moderation.serving.middleware import Gate
from moderation.serving.openapi import add_document, complete_description
from moderation.serving.options import EMBEDDED, ServerOptions
from moderation.serving.paths import route_path
from moderation.serving.shadow import report
from moderation.serving.shadow.scoring import AfterAnswer
from moderation.serving.startup import Startup
from moderation.serving.state import state_for, state_of


class Health(TypedDict):
    """The answer of `/readyz`."""

    status: Literal["ready", "draining", "broken"]
    feedback: str


def create_app(
    model: str | Path = AUTO,
    options: ServerOptions | None = None,
    *,
    keys: Keys | None = None,
    thresholds: GivenThresholds = None,
    shadow_thresholds: GivenThresholds = None,
    shadow_backend: str = "auto",
    shadow_may_fail: bool = False,
    **settings: Any,
) -> FastAPI:
    """Build the server's application, for any ASGI server. The model is loaded when the application starts.

    Args:
        model: Folder of a bundle, or the name of an included model, as for `Classifier.load`.
        options: Settings; default: those of `moderation serve`, but decisions are not stored and signals not handled.
        keys: Who may send requests; None: anybody who can reach the server.
        thresholds: Label -> threshold, or a file of them; labels that it does not name keep the bundle's.
        shadow_thresholds: As `thresholds`, for the shadow.
        shadow_backend: Engine of the shadow; torch engines count as `auto`.
        shadow_may_fail: If the shadow cannot be loaded, log the reason and continue without it.
        settings: Single settings by name, such as `rate_limit="600/minute"`; they override `options`. See
            `ServerOptions` and its parts.

    Returns:
        The application; once it has started, `state_of(app).service` answers.

    Raises:
        ConfigError: an invalid setting; a rate limit, its URL, a mapping of labels or an address that cannot be read; a
            shadow that cannot be compared.
        MissingExtraError: the package that a URL needs is not installed.
        ArtifactError: not a bundle.
        TypeError: an unknown setting, or keys or options that are something else.

    Example:
        app = create_app("model-export", keys=read_keys(Path("keys.json")), rate_limit="600/minute")
    """
    _check_types(keys, options)
    options = change(options or EMBEDDED, **settings)
    bundle = read_bundle(find_models(model)[0])
    metrics = Metrics()
    access, public_url = options.access, options.access.public_url
    startup = Startup(
        model=Path(model),
        options=options,
        thresholds=thresholds,
        shadow_thresholds=shadow_thresholds,
        shadow_backend=shadow_backend,
        shadow_may_fail=shadow_may_fail,
        counterparts=find_counterparts(bundle.labels, bundle.mapping, options.dialects.map),
        root_url=None if public_url is None else read_public_url(public_url),
        metrics=metrics,
        limiter=make_limiter(access, metrics.rate_limit_fallback),
        heavy_requests=HeavyRequests(options.load.max_body_bytes),
    )
    app = _make_api(startup)
    _add_routes(app, options, startup.counterparts, metrics)
    _add_error_handlers(app)
    add_document(app)
    complete_description(app, has_keys=keys is not None)
    _add_middleware(app, startup, Admission(keys, startup.limiter))
    return app


def _check_types(keys: object, options: object) -> None:
    if not isinstance(keys, Keys | None):
        raise TypeError(f"keys is a {type(keys).__name__}, expected Keys: moderation.serving.keys.read_keys(path)")
    if not isinstance(options, ServerOptions | None):
        raise TypeError(f"options is a {type(options).__name__}, expected ServerOptions")


def _make_api(startup: Startup) -> FastAPI:
    """An application without routes."""
    root_url = startup.root_url
    return FastAPI(
        title="content-moderation",
        version="1",
        description="Multi-label toxicity through three APIs: the server's own, OpenAI's and the Perspective API.",
        lifespan=startup.run,
        root_path_in_servers=root_url is None,
        servers=[{"url": root_url}] if root_url else None,
        openapi_url=None,  # `add_document` adds the route
        docs_url=None,  # its page would load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,  # it would redirect a key to a URL that the client made up
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it may send bodies elsewhere
    )


def _add_routes(app: FastAPI, options: ServerOptions, counterparts: Counterparts, metrics: Metrics) -> None:
    for dialect in DIALECTS.values():
        for router in dialect.make_routers(options, counterparts):
            app.include_router(router)
    app.include_router(report.make_router(metrics))
    app.include_router(static.make_router())
    _add_health(app, metrics)


def _add_middleware(app: FastAPI, startup: Startup, admission: Admission) -> None:
    """Wrap the routes in the middleware, the innermost first."""
    options, root_url = startup.options, startup.root_url
    if options.shadow.shadow is not None:
        app.add_middleware(AfterAnswer, shadow=lambda: state_of(app).shadow)
    app.add_middleware(
        Gate,
        options=options,
        admission=admission,
        heavy_requests=startup.heavy_requests,
        metrics=startup.metrics,
        service=lambda: state_of(app).service,
    )
    if options.access.cors:
        app.add_middleware(Cors, origins=options.access.cors)
    proxies = read_proxies(options.access.trusted_proxy)
    if proxies or root_url:
        app.add_middleware(PublicAddress, proxies=proxies, root_path=path_of(root_url or ""))


def _add_health(app: FastAPI, counts: Metrics) -> None:
    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", tags=["health"])
    async def livez() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], responses={"503": {"model": dict[str, str]}})
    async def readyz(request: Request) -> JSONResponse:
        """Whether the model is loaded and warm and the server is not stopping; also whether decisions can be stored."""
        state = state_for(request)
        service, feedback = state.service, state.feedback
        status: Literal["ready", "draining", "broken"]
        status = "ready" if service.is_ready else "draining" if service.draining else "broken"
        found = Health(status=status, feedback="off" if feedback is None else feedback.store.state())
        return JSONResponse(found, status_code=200 if service.is_ready else 503)

    @app.get("/metrics", tags=["health"], response_class=Response, responses={"200": {"content": {"text/plain": {}}}})
    def metrics() -> Response:  # in a thread: the counts of all workers are in files
        """Metrics in Prometheus's text format."""
        return Response(counts.render(), headers={"Content-Type": metrics_module.CONTENT_TYPE})


def _add_error_handlers(app: FastAPI) -> None:
    async def refuse(request: Request, error: Exception) -> Response:
        return render_problem(route_path(request.scope), as_problem(error))

    for kind in (ApiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, refuse)
