"""Errors of dynamic tools.  A client sees them as tool errors, with code and remedy, so that a model can act on them.

DynamicError (``HarbourError``)
|-- ArgumentInvalid     an argument is missing or of the wrong kind
|-- NotBuilt            the catalog knows the server, and it is not locked here
|-- NotFound            nobody knows it
|-- CatalogUnavailable  its database is locked or cannot be reached
|-- AddRefused          the profile keeps it out, or this caller's token does
|-- ConsentNeeded       what it may touch, and what to send to agree
|-- ConsentDenied       a person said no
|-- ConsentMoved        what it may touch is not what was agreed to
|-- ConfigFixed         the operator set that value
|-- Nested              a dynamic tool within a dynamic tool
|-- TooManyAdded        a named limit
|-- CodeUnavailable     code mode is not built, or off
`-- CodeStopped         a script reached a limit, or its sandbox ended
"""

from __future__ import annotations

from harbourmaster.core.errors import HarbourError, LimitError, RefusedError, UnavailableError


class DynamicError(HarbourError):
    code = "dynamic.error"


class ArgumentInvalid(DynamicError):
    code = "dynamic.argument_invalid"


class NotBuilt(DynamicError):
    code = "dynamic.not_built"


class NotFound(DynamicError):
    code = "dynamic.not_found"


class CatalogUnavailable(DynamicError, UnavailableError):
    code = "dynamic.catalog_unavailable"


class AddRefused(DynamicError, RefusedError):
    code = "dynamic.add_refused"


class ConsentNeeded(DynamicError):
    """``details``: ``touches`` and ``accept``."""

    code = "dynamic.consent_needed"


class ConsentDenied(DynamicError, RefusedError):
    code = "dynamic.consent_denied"


class ConsentMoved(DynamicError, RefusedError):
    code = "dynamic.consent_moved"


class ConfigFixed(DynamicError, RefusedError):
    code = "dynamic.config_fixed"


class Nested(DynamicError, RefusedError):
    code = "dynamic.nested"


class TooManyAdded(DynamicError, LimitError):
    code = "dynamic.too_many_added"


class CodeUnavailable(DynamicError, UnavailableError):
    code = "dynamic.code_unavailable"


class CodeStopped(DynamicError, LimitError):
    code = "dynamic.code_stopped"
