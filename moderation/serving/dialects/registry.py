"""The APIs that the server speaks: the routes of each, and how each words a refusal."""

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
        make_routers: Its routes, from the settings and from what the API calls the model's labels.
        render_problem: A refusal in its words.
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
"""In the order in which their routes are tried; `paths.find_dialect` says which one a path belongs to."""


def render_problem(path: str, problem: ApiError) -> Response:
    """A refusal in the words of the dialect that a path belongs to."""
    return DIALECTS[find_dialect(path)].render_problem(problem)
