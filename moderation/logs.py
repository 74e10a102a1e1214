"""Log lines on standard error: plain for commands, JSON for the server."""

import json
import logging
import logging.config
from contextlib import suppress
from typing import Any, Literal

from moderation.escapes import escape

LogLevel = Literal["debug", "info", "warning", "error"]


def configure_logs(level: LogLevel, *, as_json: bool = False) -> None:
    """Send this process's log to standard error.

    Args:
        level: Lines below it are left out. `debug` is of this toolkit's own lines alone: those of other packages
            could hold a text.
        as_json: A JSON object a line, where the server's packages are installed.
    """
    root = logging.getLogger()
    if as_json and not root.handlers:
        with suppress(ImportError):  # the command itself says what is missing
            logging.config.dictConfig(json_logs(level))
    logging.basicConfig(format="%(message)s")  # has no effect where the log goes somewhere already
    root.setLevel(_of_others(level))
    logging.getLogger("moderation").setLevel(level.upper())


def json_logs(level: LogLevel) -> dict[str, object]:
    """The server's log as `logging.config.dictConfig` takes it, for the supervisor and its workers.

    Raises:
        ImportError: python-json-logger is not installed.
    """
    from pythonjsonlogger.core import RESERVED_ATTRS

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "{levelname}{name}{message}",
                "style": "{",
                "timestamp": True,
                "json_serializer": json_line,
                "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
                "rename_fields": {"levelname": "level", "message": "event", "name": "logger"},
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["stderr"], "level": _of_others(level)},
        "loggers": {
            "moderation": {"level": level.upper()},
            "uvicorn": {"level": _of_others(level)},
            "uvicorn.access": {"level": "WARNING"},
        },
    }


def json_line(content: Any, **options: Any) -> str:
    """A record of the log as JSON in which no character is one that a terminal obeys."""
    return escape(json.dumps(content, **options))


def _of_others(level: LogLevel) -> str:
    return "INFO" if level == "debug" else level.upper()
