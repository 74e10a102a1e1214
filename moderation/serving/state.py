"""What the routes need of an application that has started."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request

from moderation.categories import Counterparts
from moderation.data.languages import Languages
from moderation.serving.dialects.perspective.languages import LanguageRule
from moderation.serving.metrics import Metrics
from moderation.serving.options import DialectOptions
from moderation.serving.service import PredictionService
from moderation.serving.shadow.scoring import Shadow

if TYPE_CHECKING:
    from moderation.serving.feedback.writer import DecisionWriter


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What an application answers with, from its start to its end.

    Args:
        service: Texts -> results.
        metrics: What is counted.
        dialects: Settings of the APIs.
        counterparts: What OpenAI and Perspective call the model's labels.
        languages: Finds the language of a text.
        language_rule: Which languages `analyze` answers in.
        root_url: Address of the server as clients know it; None: as each request says.
        feedback: Keeps moderators' decisions; None: none are taken.
        shadow: A second bundle that is tried out; None: there is none.
        description: What `/v1/model` answers, as JSON.
    """

    service: PredictionService
    metrics: Metrics
    dialects: DialectOptions
    counterparts: Counterparts
    languages: Languages
    language_rule: LanguageRule
    root_url: str | None
    feedback: "DecisionWriter | None"
    shadow: Shadow | None
    description: bytes


def set_state(app: Starlette, state: AppState) -> None:
    """Give an application that starts what its routes need."""
    app.state.running = state


def state_of(app: Starlette) -> AppState:
    """What an application answers with.

    Raises:
        AttributeError: it has not started.
    """
    state: AppState = app.state.running
    return state


def state_for(request: Request) -> AppState:
    """What the application answers with that a request came to."""
    return state_of(request.app)
