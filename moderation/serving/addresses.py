"""The address under which clients know the server behind proxies: set by the operator, or sent by a trusted proxy."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from moderation.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_MAPPED_BITS = 96  # ::ffff:0:0/96 holds all of IPv4
_LONGEST, _LONGEST_CHAIN = 256, 1024  # characters of a prefix, and of the chain of addresses in X-Forwarded-For
_OWN = frozenset({"v1", "v1alpha1", "batch", "page", "livez", "readyz", "metrics", "openapi.json"})
_WITH_PORT = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


def read_public_url(words: str) -> str:
    """The address under which clients know the server, with a slash at its end.

    Raises:
        ConfigError: it is not a URL, or its path begins like one of the server's own.

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
    said = " names a user" if "@" in words else f" is {words[:200]!r}"
    if not fine or len(path) > _LONGEST or not _PREFIX.fullmatch(path) or re.search(r"[?#\s]", words):
        raise ConfigError(
            f"--public-url{said}, expected the address of the server as clients know it, such as "
            "https://moderation.example/prefix: http or https, without user, query or fragment, and a path of letters, "
            "digits and - . _ ~."
        )
    if path.split("/")[1:2] and path.split("/")[1] in _OWN:
        raise ConfigError(
            f"--public-url is {words[:200]!r}: its path begins like one of the server's own paths, so the two could "
            "not be told apart. Choose another prefix."
        )
    return f"{url.scheme}://{url.netloc}{path}/"


def path_of(public_url: str) -> str:
    """The path that proxies put in front of the server's paths, without a slash at its end.

    >>> path_of("https://moderation.example/prefix/"), path_of("https://moderation.example/")
    ('/prefix', '')
    """
    return urlsplit(public_url).path.rstrip("/")


def read_proxies(words: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks of proxies.

    Raises:
        ConfigError: one of them is not an address or network, or it means everybody.
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
            raise ConfigError(f"--trusted-proxy {word}: then anybody could claim any address. List only your proxies.")
        found.append(_as_ipv4(network))
    return tuple(found)


def _as_ipv4(network: Network) -> Network:
    """Turn an IPv4 network in its IPv6-mapped form into plain IPv4, as for the addresses of requests."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen <= _MAPPED_BITS:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


class PublicAddress:
    """ASGI middleware that restores a request to what the client sent to the proxy.

    If a request comes from a trusted proxy, `X-Forwarded-For` gives the client's address: the last one that is not a
    trusted proxy's. `X-Forwarded-Proto` gives the scheme, `X-Forwarded-Host` the host, and `X-Forwarded-Prefix` what
    the proxy removed from the path; of several values the last one counts, which comes from the proxy itself.

    Args:
        app: The wrapped application.
        proxies: The trusted proxies.
        root_path: What proxies put in front of the server's paths, whether they remove it again or not.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], root_path: str = "") -> None:
        self._app, self._proxies, self._root_path = app, proxies, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as its client sent it to the proxy."""
        if scope["type"] == "http":
            if self._root_path and not scope.get("root_path"):
                scope["root_path"] = self._root_path
            host, port = scope.get("client") or ("", 0)
            address = _read_address(host)
            scope["client"] = (str(address or host), port)
            if address is not None and self._is_proxy(address):
                self._believe(scope)
        await self._app(scope, receive, send)

    def _is_proxy(self, address: _Address) -> bool:
        return any(address in network for network in self._proxies)

    def _believe(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if client := self._find_client(headers):
            scope["client"] = (client, 0)
        scheme, host, prefix = (_last(headers, f"x-forwarded-{name}") for name in ("proto", "host", "prefix"))
        if scheme.lower() in ("http", "https"):
            scope["scheme"] = scheme.lower()
        if _HOST.fullmatch(host):
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            scope["headers"] = [(b"host", host.encode()), *others]
        prefix = prefix.rstrip("/")
        if prefix and not scope.get("root_path") and len(prefix) <= _LONGEST and _PREFIX.fullmatch(prefix):
            scope["root_path"], scope["path"] = prefix, prefix + scope["path"]
            scope["raw_path"] = prefix.encode() + scope.get("raw_path", b"")

    def _find_client(self, headers: Headers) -> str:
        """The last address of the chain that is not a proxy's, else the first; "" if there is none.

        Nothing before an invalid address is trusted: anybody could have sent it.
        """
        found = ""
        chain = ",".join(headers.getlist("x-forwarded-for"))
        if len(chain) > _LONGEST_CHAIN:
            chain = chain[-_LONGEST_CHAIN:].partition(",")[2]
        for word in reversed(chain.split(",")):
            address = _read_address(_without_port(word.strip()))
            if address is None:
                break
            found = str(address)
            if not self._is_proxy(address):
                break
        return found


def _without_port(word: str) -> str:
    """An address from a chain, without the port that some proxies append: `1.2.3.4:5`, `[::1]:5`."""
    match = _WITH_PORT.fullmatch(word)
    return match[1] or match[2] if match else word


def _last(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def _read_address(host: str) -> _Address | None:
    """An address; an IPv6-mapped IPv4 address becomes plain IPv4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
