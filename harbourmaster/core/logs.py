"""Logging: one line per event on stderr; JSON when a machine reads it (``HM_LOG_FORMAT=json``)."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from harbourmaster.core.redaction import IN_USE


class LineFormatter(logging.Formatter):
    """Secrets in use are replaced after everything else, so that no argument and no traceback slips past."""

    def format(self, record: logging.LogRecord) -> str:
        return IN_USE.redact(super().format(record))


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        body = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return IN_USE.redact(json.dumps(body, ensure_ascii=False))


def configure(level: str = "info") -> None:
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("HM_LOG_FORMAT") == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("urllib3", "docker", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
