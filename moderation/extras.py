"""Which packages each extra of this toolkit installs, so that the error for a missing package can say how to fix it."""

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from moderation.errors import MissingExtraError

BASE = ("numpy", "tqdm")
"""Modules that every installation has."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "tables": ("pandas", "pyarrow"),
    "suites": ("jinja2", "scipy", "sklearn"),
    "onnx": ("onnxruntime", "tokenizers"),
    "openvino": ("openvino",),
    "languages": ("py3langid",),
    "serve": (
        "cachetools",
        "fastapi",
        "httptools",
        "limits",
        "prometheus_client",
        "pydantic",
        "pydantic_core",
        "pythonjsonlogger",
        "starlette",
        "uvicorn",
    ),
    "feedback": ("sqlalchemy",),
    "serve-postgres": ("psycopg",),
    "serve-redis": ("redis",),
    "migrate": ("matplotlib",),
    "train": (
        "accelerate",
        "confusable_homoglyphs",
        "datasets",
        "emoji",
        "huggingface_hub",
        "psutil",
        "safetensors",
        "threadpoolctl",
        "torch",
        "transformers",
    ),
    "export": ("onnx", "nncf"),
    "torchserve": ("model_archiver",),
}
"""Extra -> modules that it installs and that no extra above it does.

`suites` also includes `tables`, `migrate` includes both, and `train` all three.
"""

_OURS = ("moderation", "model_training")
_INCLUDED = {
    "suites": ("tables",),
    "migrate": ("suites", "tables"),
    "train": ("migrate", "suites", "tables"),
    "serve-postgres": ("feedback",),
}


def extra_of(module: str) -> str | None:
    """The extra that installs a module; None: no extra does.

    >>> extra_of("pyarrow.parquet"), extra_of("numpy")
    ('tables', None)
    """
    package = module.split(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)


def modules_of(extra: str) -> tuple[str, ...]:
    """All modules that an extra installs, with those of the extras that it includes.

    >>> modules_of("suites")
    ('jinja2', 'scipy', 'sklearn', 'pandas', 'pyarrow')
    """
    return tuple(module for one in (extra, *_INCLUDED.get(extra, ())) for module in EXTRAS[one])


def missing_extra(
    error: ModuleNotFoundError, needs: Sequence[str] = (), feature: str = "This command"
) -> MissingExtraError | None:
    """Make the error that names the extras to install for a missing module.

    Args:
        error: What the import raised.
        needs: All extras that the feature needs. The error names every missing one at once, so that nobody has to
            install, try and install again.
        feature: What was asked for, in the user's words.

    Returns:
        The error to raise instead; None if a module of this toolkit itself is missing, which is a bug.

    >>> print(missing_extra(ModuleNotFoundError(name="torch"), feature="This command"))
    This command needs the package torch, which is not installed. In the folder of this toolkit, run: \
pip install '.[train]'
    """
    package = (error.name or "").split(".")[0]
    if package in ("", *_OURS):
        return None
    wanted = [extra for extra in needs if any(map(_is_absent, modules_of(extra)))]
    named = extra_of(package)
    if named is None and package not in BASE:
        wanted = wanted or list(needs)  # a dependency of one of the packages: installing them again installs it
    if named is not None and not any(package in modules_of(extra) for extra in wanted):
        wanted.append(named)
    if named is None and package not in BASE and not wanted:
        return None
    return MissingExtraError(feature, ",".join(wanted), package)


def require(modules: Sequence[str], needs: Sequence[str], feature: str = "This command") -> None:
    """Refuse to start if a module is missing that is only needed later: after hours, or in another process.

    Raises:
        MissingExtraError: a module is not installed.
    """
    for module in modules:
        if _is_absent(module) and (missing := missing_extra(ModuleNotFoundError(name=module), needs, feature)):
            raise missing


def package_version(package: str) -> str:
    """Version of a package; an engine can also be installed under another name, such as onnxruntime-gpu."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "unknown"))


def toolkit_version() -> str:
    """Version of this toolkit; `unknown` if it runs from its folder without being installed."""
    return package_version("content-moderation")


def _is_absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except (ImportError, ValueError):  # hidden by an import hook, or only partly loaded
        return True
