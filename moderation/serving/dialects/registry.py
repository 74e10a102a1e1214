"""The APIs of the server: the routes of each, and its format for refusals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from moderation.categories import Counterparts
from moderation.serving.dialects import native, openai
from moderation.serving.dialects.perspective import batch, routes
from moderation.serving.errors import ApiError
from moderation.serving.options import ServerOptions
from moderation.serving.paths import DialectName, find_dialect


@dataclass(frozen=True)
class Dialect:
    """One API.

    Args:
        make_routers: Makes its routes, from the settings and the API's names for the model's labels.
        render_problem: Formats a refusal.
    """

    make_routers: Callable[[ServerOptions, Counterparts], Sequence[APIRouter]]
    render_problem: Callable[[ApiError], Response]


DIALECTS: dict[DialectName, Dialect] = {
    "native": Dialect(lambda options, _: [native.make_router(options.load.max_texts)], native.render_problem),
    "openai": Dialect(lambda options, _: [openai.make_router(options.load.max_texts)], openai.render_problem),
    "perspective": Dialect(
        lambda _, counterparts: [routes.make_router(list(counterparts.attributes)), batch.make_router()],
        routes.render_problem,
    ),
}
"""In the order in which their routes are tried; `paths.find_dialect` finds the one that a path belongs to."""


def render_problem(path: str, problem: ApiError) -> Response:
    """A refusal in the format of the API that a path belongs to."""
    return DIALECTS[find_dialect(path)].render_problem(problem)
