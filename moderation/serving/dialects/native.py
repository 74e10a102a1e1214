"""The server's own API: `/v1/predict` and `/v1/model`."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator
from starlette.responses import JSONResponse, Response

from moderation.bundles import CARD, check_files
from moderation.categories import CATEGORIES, Counterparts
from moderation.inference.classifier import Classifier, TextResult
from moderation.inference.sentences import split_sentences
from moderation.serving.admission import CALLER
from moderation.serving.bodies.json_bodies import JsonRoute, keep_one_unknown
from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import run_heavy
from moderation.serving.service import PredictionService
from moderation.serving.state import AppState, state_for

MAX_SENTENCES = 512
"""Maximum for one request, shared evenly among its texts; a text's last sentence contains all the rest."""

_LONGEST_CARD = 500_000  # characters; every answer of /v1/model holds the card
_FEW = 8  # texts whose answer is assembled on the event loop


class PredictRequest(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(extra="forbid")

    texts: Annotated[list[StrictStr], Field(fail_fast=True, description="texts of any length, in any language")]
    sentences: Annotated[StrictBool, Field(description="also classify each sentence")] = False

    @model_validator(mode="before")
    @classmethod
    def _keep_one_unknown(cls, given: Any) -> Any:
        return keep_one_unknown(given, cls.model_fields)


class Language(BaseModel):
    """The language that a text seems to be written in."""

    code: Annotated[str, Field(description="ISO 639-1; und: too short or too unclear to tell")]
    supported: Annotated[bool, Field(description="false: the model was not trained on it; do not rely on the answer")]


class Sentence(BaseModel):
    """A sentence, classified by itself."""

    begin: Annotated[int, Field(description="offset of its first character (code point) in the text")]
    end: Annotated[int, Field(description="offset after its last character")]
    probabilities: dict[str, float]
    flagged: list[str]


class Result(BaseModel):
    """The model's result for one text."""

    probabilities: Annotated[dict[str, float], Field(description="label -> probability in [0, 1]")]
    flagged: Annotated[list[str], Field(description="labels whose probability reaches their threshold")]
    n_windows: Annotated[int, Field(description="windows in which the text was read")]
    language: Language
    model_version: Annotated[
        str | None, Field(description="the model that read this text, where a server has several, or several languages")
    ] = None
    thresholds: Annotated[dict[str, float] | None, Field(description="those that decided about it, likewise")] = None
    sentences: list[Sentence] | None = None


ThresholdsFrom = Annotated[
    Literal["bundle", "set"], Field(description="whether the bundle's thresholds decide, or some set for this server")
]


class PredictAnswer(BaseModel):
    """Results, in the order of the texts."""

    model_version: str
    thresholds: dict[str, float]
    thresholds_from: ThresholdsFrom
    results: list[Result]


class Category(BaseModel):
    """What an OpenAI category means with this model."""

    labels: list[str]
    supported: bool


class OneModel(BaseModel):
    """One of the models that answer."""

    model_version: str
    version: Annotated[str, Field(description="SHA-256 of the bundle, 64 hex digits")]
    languages: list[str]
    thresholds: dict[str, float]
    thresholds_by_language: dict[str, dict[str, float]]
    figures_by_language: Annotated[
        dict[str, object], Field(description="language -> label -> figures on the test split, as far as they are known")
    ]


class ModelAnswer(BaseModel):
    """The model that answers."""

    model_version: Annotated[str, Field(description="name@first digits of the version/engine")]
    name: str
    version: Annotated[str, Field(description="SHA-256 of the bundle, 64 hex digits")]
    labels: list[str]
    thresholds: dict[str, float]
    thresholds_from: ThresholdsFrom
    languages: list[str]
    models: Annotated[list[OneModel], Field(description="each model: the first reads the languages that it names")]
    window: dict[str, int]
    curves: Annotated[
        dict[str, object] | None, Field(description="precision and recall over thresholds, on validation data")
    ]
    categories: Annotated[
        dict[str, Category], Field(description="OpenAI's categories -> the labels that they come from")
    ]
    labels_without_category: list[str]
    attributes: Annotated[dict[str, str], Field(description="Perspective's attributes -> labels")]
    card: Annotated[str, Field(description="the model card, Markdown")]


class ProblemDetail(BaseModel):
    """What is wrong."""

    type: str
    message: str


class ProblemAnswer(BaseModel):
    """A refusal."""

    error: ProblemDetail


def make_router(max_texts: int) -> APIRouter:
    """The routes.

    Args:
        max_texts: Maximum number of texts in one request.
    """
    router = APIRouter(
        prefix="/v1",
        tags=["native"],
        route_class=JsonRoute,
        responses={code: {"model": ProblemAnswer} for code in ("4XX", "503", "504")},
    )

    @router.post("/predict", response_model=PredictAnswer)
    async def predict(body: PredictRequest, request: Request) -> Response:
        """Probabilities, thresholds and flagged labels of texts."""
        if len(body.texts) > max_texts:
            raise ApiError(413, "too_many_texts", f"{len(body.texts)} texts; expected {max_texts} at most.")
        return JSONResponse(await _predict(state_for(request), body, request.scope[CALLER]))

    @router.get("/model", response_model=ModelAnswer)
    async def model(request: Request) -> Response:
        """Labels, thresholds, languages, version and card of the model."""
        return Response(state_for(request).description, media_type="application/json")

    return router


class SentenceJson(TypedDict):
    """As `Sentence`."""

    begin: int
    end: int
    probabilities: dict[str, float]
    flagged: list[str]


class ResultJson(TypedDict):
    """As `Result`."""

    probabilities: dict[str, float]
    flagged: list[str]
    n_windows: int
    language: dict[str, str | bool]
    model_version: NotRequired[str]
    thresholds: NotRequired[dict[str, float]]
    sentences: NotRequired[list[SentenceJson]]


class PredictJson(TypedDict):
    """As `PredictAnswer`, but without the cost of validating hundreds of our own results."""

    model_version: str
    thresholds: dict[str, float]
    thresholds_from: str
    results: list[ResultJson]


async def _predict(state: AppState, body: PredictRequest, caller: str | None) -> PredictJson:
    service = state.service
    service.check_size(body.texts)
    most = max(1, MAX_SENTENCES // max(1, len(body.texts)))
    spans = [split_sentences(text, most=most) if body.sentences else [] for text in body.texts]
    pieces = [text[begin:end] for text, some in zip(body.texts, spans, strict=True) for begin, end in some]
    owners = [place for place, some in enumerate(spans) for _ in some]
    found = await service.read([*body.texts, *pieces], caller=caller, owners=owners)
    if len(found) > _FEW:  # not on the event loop, where all other requests would wait
        return await run_heavy(_put_together, state, body, spans, found)
    return _put_together(state, body, spans, found)


def _put_together(
    state: AppState, body: PredictRequest, spans: list[list[tuple[int, int]]], found: list[TextResult]
) -> PredictJson:
    classifier = state.service.classifier
    pieces = iter(found[len(body.texts) :])
    results = []
    for text, some, result in zip(body.texts, spans, found, strict=False):
        answer = ResultJson(
            probabilities=result.probabilities,
            flagged=list(result.flagged),
            n_windows=result.n_windows,
            language=state.languages.describe(text, classifier.languages, result.language),
        )
        if classifier.router is not None:
            answer["model_version"] = result.model_version
            answer["thresholds"] = dict(result.thresholds)
        if body.sentences:
            answer["sentences"] = [_describe_sentence(begin, end, next(pieces)) for begin, end in some]
        results.append(answer)
    return PredictJson(
        model_version=classifier.model_version,
        thresholds=classifier.thresholds_by_label,
        thresholds_from=classifier.thresholds_from,
        results=results,
    )


def _describe_sentence(begin: int, end: int, found: TextResult) -> SentenceJson:
    return SentenceJson(begin=begin, end=end, probabilities=found.probabilities, flagged=list(found.flagged))


def render_model(service: PredictionService, counterparts: Counterparts) -> bytes:
    """The answer of `/v1/model`, as JSON."""
    classifier = service.classifier
    bundle = classifier.bundle
    curves = bundle.records.get("curves")
    answer = ModelAnswer(
        model_version=classifier.model_version,
        name=bundle.name,
        version=bundle.version,
        labels=list(classifier.labels),
        thresholds=classifier.thresholds_by_label,
        thresholds_from=classifier.thresholds_from,
        languages=list(classifier.languages),
        models=_describe_models(classifier),
        window={"length": bundle.window_length, "overlap": bundle.window_overlap},
        curves=curves if isinstance(curves, dict) else None,
        categories=_describe_categories(counterparts),
        labels_without_category=list(counterparts.without_category),
        attributes=counterparts.attributes,
        card=_read_card(service),
    )
    return bytes(JSONResponse(answer.model_dump()).body)


def _describe_models(classifier: Classifier) -> list[OneModel]:
    answers = []
    for model, tunings in zip(classifier.models, classifier.tunings, strict=True):
        bundle = model.bundle
        metrics = bundle.records.get("metrics")
        test = metrics.get("test") if isinstance(metrics, dict) else None
        measured = test.get("languages") if isinstance(test, dict) else None
        answers.append(
            OneModel(
                model_version=model.version,
                version=bundle.version,
                languages=list(bundle.languages),
                thresholds=dict(zip(classifier.labels, tunings.general.thresholds, strict=True)),
                thresholds_by_language=tunings.thresholds_by_language(classifier.labels),
                figures_by_language=measured if isinstance(measured, dict) else {},
            )
        )
    return answers


def _describe_categories(counterparts: Counterparts) -> dict[str, Category]:
    """Every category with its labels, and whether this model supports it."""
    return {
        name: Category(labels=list(counterparts.supported(name)), supported=bool(counterparts.supported(name)))
        for name in CATEGORIES
    }


def _read_card(service: PredictionService) -> str:
    bundle = service.classifier.bundle
    if CARD not in bundle.files:
        return ""
    check_files(bundle, [CARD])
    with (bundle.path / CARD).open(encoding="utf-8", errors="replace") as card:
        return card.read(_LONGEST_CARD)


def render_problem(problem: ApiError) -> JSONResponse:
    """A refusal in the format of the server's own API."""
    body = {"error": {"type": problem.kind, "message": problem.message}}
    return JSONResponse(body, status_code=problem.status, headers=problem.headers)
