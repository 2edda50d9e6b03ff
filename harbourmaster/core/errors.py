"""The root of the error tree.

HarbourError                  every refusal or failure a person may see
|-- UsageError                the request itself is malformed               (exit 2)
|-- ConfigError               settings, config.toml or an entry file is wrong
|-- EngineError               the container engine is missing, broken or said no
|-- IntegrityError            bytes are not what their digest, signature or chain says
|-- RefusedError              policy says no
|-- NotFoundError             the named thing does not exist
|-- UnavailableError          a thing that should answer does not
`-- LimitError                a named limit was reached

Each package subclasses these in its own ``errors.py`` and gives every class a ``code``: stable, dotted, lower case
(``signature.untrusted_key``).  Scripts and the audit depend on codes; people read ``message`` (what was refused and
why) and ``remedy`` (what they can do).
"""

from __future__ import annotations

from typing import Any, ClassVar


class HarbourError(Exception):
    """Base of all errors.

    >>> raise EngineError("no container engine answers on /var/run/docker.sock", remedy="start it, or run: hm doctor")
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """Shape used by ``--json`` output, REST errors and the audit: ``{code, message, remedy?, details?}``."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.remedy:
            body["remedy"] = self.remedy
        if self.details:
            body["details"] = self.details
        return body


class UsageError(HarbourError):
    code = "usage"
    exit_status = 2


class ConfigError(HarbourError):
    code = "config.invalid"


class EngineError(HarbourError):
    code = "engine.failed"


class IntegrityError(HarbourError):
    code = "integrity.failed"


class RefusedError(HarbourError):
    code = "refused"


class NotFoundError(HarbourError):
    code = "not_found"


class UnavailableError(HarbourError):
    code = "unavailable"


class LimitError(HarbourError):
    code = "limit.reached"
