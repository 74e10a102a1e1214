"""What the routes need from an application that has started."""

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
    """Everything that an application uses to answer, from its start to its end.

    Args:
        service: Texts -> results.
        metrics: Where to count.
        dialects: Settings of the APIs.
        counterparts: What OpenAI and Perspective call the model's labels.
        languages: Finds the language of a text.
        language_rule: Which languages `analyze` answers in.
        root_url: Address of the server as clients know it; None: taken from each request.
        feedback: Stores moderators' decisions; None: they are refused.
        shadow: A second bundle that is tried out; None: there is none.
        description: The answer of `/v1/model`, as JSON.
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
    """Store the state in an application that starts."""
    app.state.running = state


def state_of(app: Starlette) -> AppState:
    """The state of an application.

    Raises:
        AttributeError: it has not started.
    """
    state: AppState = app.state.running
    return state


def state_for(request: Request) -> AppState:
    """The state of the application that got a request."""
    return state_of(request.app)
