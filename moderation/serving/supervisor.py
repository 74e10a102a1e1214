"""Worker processes that share one socket; one that dies is replaced.

This process loads no model. Its workers are uvicorn servers that build the application themselves.
"""

import logging
import os
import socket
import tempfile
from functools import partial
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from moderation.errors import ConfigError
from moderation.serving.keys import read_keys
from moderation.serving.protocol import BoundedProtocol

_LOG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "{levelname}{name}{message}",
            "style": "{",
            "timestamp": True,
            "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
            "rename_fields": {"levelname": "level", "message": "event", "name": "logger"},
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}},
}

logger = logging.getLogger(__name__)


def serve_forever(
    settings: dict[str, Any], *, host: str, port: int, workers: int, stop_within_s: float, socket_to_use: socket.socket
) -> int:
    """Run the workers until SIGTERM or Ctrl-C.

    Args:
        settings: Arguments of `create_app`, which can be pickled; `keys` is the path of their file.
        host: For the log.
        port: For the log.
        workers: How many processes.
        stop_within_s: Requests in flight are answered for so long after a stop was asked for.
        socket_to_use: Bound, from `bind`.

    Returns:
        0; 1 where the workers could not start.
    """
    config = Config(
        partial(build_app, settings),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedProtocol,
        log_config=_LOG,
        access_log=False,  # it would write down addresses, and the keys in them
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(stop_within_s),
        timeout_worker_healthcheck=10,
        backlog=1024,
    )
    with tempfile.TemporaryDirectory(prefix="moderation-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # the workers' counts; read where prometheus_client is imported
        supervisor = _Supervisor(config, [socket_to_use])
        supervisor.run()
        return 0 if all(process.exitcode in (0, -15, -2) for process in supervisor.processes) else 1


class _Supervisor(Multiprocess):
    """Lets go of the socket as soon as it is to stop: nobody shall connect to what no worker listens to any more."""

    def terminate_all(self) -> None:
        for bound in self.sockets:
            bound.close()
        super().terminate_all()


def build_app(settings: dict[str, Any]) -> Any:
    """In a worker: the application. Its keys are read here, so that a worker started anew knows the newest."""
    from moderation.serving.app import create_app

    path = settings["keys"]
    return create_app(**settings | {"keys": None if path is None else read_keys(path)})


def bind(host: str, port: int) -> socket.socket:
    """A socket for the workers to listen on; port 0: any that is free.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}). Is another server running? "
            "Choose another --port, or an address of this machine."
        ) from error
    bound.set_inheritable(True)
    return bound
