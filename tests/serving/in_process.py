"""An application without a server around it, for what depends on its settings alone."""

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI


def ask(
    app: Any, *requests: dict[str, Any], started: FastAPI | None = None, at_once: bool = False
) -> list[httpx.Response]:
    """Start an application, send requests (httpx's words for them), and stop it.

    Args:
        app: What is asked.
        requests: One after the other.
        started: The application to start where it stands inside `app`.
        at_once: Send each request before the one before it is answered.
    """
    inner = started or app

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with (
            inner.router.lifespan_context(inner),
            httpx.AsyncClient(transport=transport, base_url="http://x") as it,
        ):
            sent = (it.request(**{"method": "POST", "timeout": 60} | request) for request in requests)
            return list(await asyncio.gather(*sent)) if at_once else [await one for one in sent]

    return asyncio.run(send())
