"""Environment variables named `MODERATION_...`: settings, variables set by other programs, and unknown ones."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

PREFIX = "MODERATION_"
OTHERS = ("CACHE", "CONFIG", "FUZZ_S", "SHARED", "TORCHSERVE_PYTHON", "TRITON_PYTHON")
"""Variables that are not settings: the cache folder, the file of settings, and those of this project's tests."""

_LINK = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_LINKED_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


@dataclass(frozen=True)
class Variables:
    """The variables of an environment, sorted by kind.

    Args:
        settings: Setting in lower case -> value, without surrounding white space.
        unknown: Unknown variable -> the one that was probably meant, or an empty string.
        linked: Settings whose variable contains the address of a service, as set by Kubernetes, and not their value.
    """

    settings: dict[str, str]
    unknown: dict[str, str]
    linked: tuple[str, ...] = ()


def sort_variables(environment: Mapping[str, str], settings: Collection[str]) -> Variables:
    """Sort the variables with this toolkit's prefix.

    For a service called `moderation` or `moderation-...`, Kubernetes sets `MODERATION_SERVICE_HOST`,
    `MODERATION_PORT=tcp://...`, `MODERATION_PORT_8000_TCP_ADDR` and so on in every container; Docker's links do the
    same. These are ignored.

    Args:
        environment: All variables of the process.
        settings: Names of the settings that variables can set, in lower case.

    >>> sort_variables({"MODERATION_HOST": "::1", "MODERATION_PRT": "1"}, ["host", "port"])
    Variables(settings={'host': '::1'}, unknown={'MODERATION_PRT': 'MODERATION_PORT'}, linked=())
    """
    ours = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    aliases = {name.removesuffix("PORT") for name, value in ours.items() if _is_address(name, value)}
    known = {name.upper() for name in settings}
    found, unknown, linked = {}, {}, []
    for name, value in ours.items():
        if _is_address(name, value):
            linked += [name.lower()] if name in known else []
        elif name in known:
            found[name.lower()] = value.strip()
        elif name not in OTHERS and not _LINK.fullmatch(name) and not _is_of_link(name, aliases):
            guess = closest(name.upper(), sorted(known | {*OTHERS[:2]}))
            unknown[PREFIX + name] = PREFIX + guess if guess else ""
    return Variables(found, dict(sorted(unknown.items())), tuple(linked))


def closest(word: str, known: Collection[str]) -> str:
    """The known word that was probably meant by this one; empty: none is similar.

    >>> closest("RATELIMIT", ["HOST", "RATE_LIMIT"]), closest("colour", ["lr"])
    ('RATE_LIMIT', '')
    """
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.65)), "")


def _is_address(name: str, value: str) -> bool:
    return (name == "PORT" or name.endswith("_PORT")) and _LINKED_ADDRESS.match(value.strip()) is not None


def _is_of_link(name: str, aliases: Collection[str]) -> bool:
    """Whether Docker set it together with the address of a container that is linked under one of these names."""
    return any(name == f"{alias}NAME" or name.startswith(f"{alias}ENV_") for alias in aliases)
