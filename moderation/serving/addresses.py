"""Under which address clients know the server, behind proxies: as its operator says, or as a trusted proxy does."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from moderation.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_LONGEST, _LONGEST_CHAIN = 256, 1024  # characters of a prefix, and of the addresses that a request has come by
_OWN = frozenset({"v1", "v1alpha1", "batch", "page", "livez", "readyz", "metrics", "openapi.json"})
_PEER = "moderation.peer"  # under this name a scope holds who has sent the request, whoever it says that it is for


def read_public_url(words: str) -> str:
    """The address under which clients know the server, with a slash at its end.

    Raises:
        ConfigError: it is none, or its path begins as one of the server's own.

    >>> read_public_url("https://moderation.example/prefix")
    'https://moderation.example/prefix/'
    """
    try:
        url = urlsplit(words)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    path = url.path.rstrip("/")
    fine = url.scheme in ("http", "https") and _HOST.fullmatch(url.netloc) and port != 0
    if not fine or len(path) > _LONGEST or not _PREFIX.fullmatch(path) or re.search(r"[?#\s]", words):
        raise ConfigError(
            f"--public-url is {_hide_user(words)!r}, expected the address of the server as clients know it, such as "
            "https://moderation.example/prefix: http or https, without user, query or fragment, and a path of letters, "
            "digits and - . _ ~."
        )
    if path.split("/")[1:2] and path.split("/")[1] in _OWN:
        raise ConfigError(
            f"--public-url is {words[:200]!r}: its path begins as a path of the server itself does, so that the two "
            "could not be told apart. Choose another prefix."
        )
    return f"{url.scheme}://{url.netloc}{path}/"


def path_of(public_url: str) -> str:
    """The path that proxies put in front of the server's own ones, without a slash at its end.

    >>> path_of("https://moderation.example/prefix/"), path_of("https://moderation.example/")
    ('/prefix', '')
    """
    return urlsplit(public_url).path.rstrip("/")


def read_proxies(words: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks of proxies.

    Raises:
        ConfigError: one of them is none, or it means everybody.
    """
    found: list[Network] = []
    for word in words:
        try:
            network = ipaddress.ip_network(word)
        except ValueError:
            raise ConfigError(
                f"--trusted-proxy is {word[:80]!r}, expected the address of a proxy, or of a network without bits "
                "behind its prefix, such as 10.0.0.7, 10.0.0.0/24 or fd00::/64."
            ) from None
        if network.prefixlen == 0:
            raise ConfigError(f"--trusted-proxy {word}: everybody could then say who they are. Name your proxies.")
        found.append(network)
    return tuple(found)


class PublicAddress:
    """ASGI middleware that puts a request back into the words of the client that sent it to a proxy.

    It believes what a proxy says of a request, where the request comes from one that is trusted.

    `X-Forwarded-For` tells the client's address and `X-Forwarded-Proto` the scheme, by uvicorn's middleware;
    `X-Forwarded-Host` tells the host, and `X-Forwarded-Prefix` what the proxy has taken off the path. Of several values
    of these two the last one counts, which is that of the proxy itself.

    Args:
        app: What stands behind.
        proxies: Who is believed.
        root_path: What proxies put in front of the server's paths, whether they then take it off or not.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], root_path: str = "") -> None:
        self._app, self._proxies, self._root_path = app, proxies, root_path
        self._of_uvicorn = ProxyHeadersMiddleware(self._check_client, list(map(str, proxies)))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as its client has sent it to the proxy."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path and not scope.get("root_path"):
            scope["root_path"] = self._root_path
        host, port = scope.get("client") or ("", 0)
        address = _read_address(host)
        scope["client"] = scope[_PEER] = (str(address or host), port)
        if address is not None and any(address in network for network in self._proxies):
            _believe(scope)
        await self._of_uvicorn(scope, receive, send)  # type: ignore[arg-type]

    async def _check_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no address counts as the proxy itself: else anybody who can send it could be anybody."""
        client = _read_address(scope["client"][0])
        scope["client"] = scope[_PEER] if client is None else (str(client), scope["client"][1])
        await self._app(scope, receive, send)


def _believe(scope: Scope) -> None:
    headers = Headers(scope=scope)
    replaced = {b"x-forwarded-for": _join_end(headers.getlist("x-forwarded-for")).encode("latin-1")}
    host, prefix = (_last(headers, f"x-forwarded-{name}") for name in ("host", "prefix"))
    if _HOST.fullmatch(host):
        replaced[b"host"] = host.encode()
    others = [pair for pair in scope["headers"] if pair[0] not in replaced]
    scope["headers"] = [pair for pair in replaced.items() if pair[1]] + others
    prefix = prefix.rstrip("/")
    if prefix and not scope.get("root_path") and len(prefix) <= _LONGEST and _PREFIX.fullmatch(prefix):
        scope["root_path"], scope["path"] = prefix, prefix + scope["path"]
        scope["raw_path"] = prefix.encode() + scope.get("raw_path", b"")


def _join_end(values: Sequence[str]) -> str:
    """The last addresses of a list; to read a long one takes milliseconds, and all of it but the end is hearsay."""
    joined = ",".join(values)
    return joined if len(joined) <= _LONGEST_CHAIN else joined[-_LONGEST_CHAIN:].partition(",")[2]


def _last(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def _read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address; one of IPv4 that a socket of IPv6 has seen, as itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _hide_user(words: str) -> str:
    return re.sub(r"[^/]*@", "...@", words)[:200]
