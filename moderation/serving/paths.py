"""The path of a request as the routes see it, and which dialect it belongs to."""

import re
from typing import Literal

from starlette.types import Scope

BATCH_PATHS = ("/batch", "/batch/commentanalyzer/v1alpha1")
"""Paths to which Google's clients send several requests at once."""

DialectName = Literal["native", "openai", "perspective"]

_OPENAI = "/v1/moderations"
_ASK_THE_MODEL = ("/v1/predict", _OPENAI, "/comments:analyze", *BATCH_PATHS)  # the ends of their paths
_PERSPECTIVE = ("/v1alpha1/", "/comments:", "/$discovery/", "/batch")


def route_path(scope: Scope) -> str:
    """The path without the root path that a proxy or another application put in front of it.

    >>> route_path({"path": "/moderation/v1/model", "root_path": "/moderation"})
    '/v1/model'
    >>> route_path({"path": "/v1/model", "root_path": "/v1/mo"})
    '/v1/model'
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if path.startswith(f"{root}/") else path


def find_dialect(path: str) -> DialectName:
    """The API whose format an error at this path uses; double slashes and one at the end change nothing.

    >>> find_dialect("/v1/moderations"), find_dialect("//v1alpha1/comments:analyze/"), find_dialect("/v1/predict")
    ('openai', 'perspective', 'native')
    """
    tidy = re.sub("//+", "/", path)
    if tidy.rstrip("/") == _OPENAI:
        return "openai"
    return "perspective" if tidy.startswith(_PERSPECTIVE) else "native"


def asks_model(path: str) -> bool:
    """Whether the model has to compute something for a request to this path.

    >>> asks_model("/v1alpha1/comments:analyze"), asks_model("/v1/model")
    (True, False)
    """
    return path.endswith(_ASK_THE_MODEL)
