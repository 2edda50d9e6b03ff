"""
HarbourError
|-- UnavailableError
|   `-- LookupUnavailable    lookup.unavailable    an index, repository or registry does not answer (offline?)
|-- NotFoundError
|   `-- LookupMissing        lookup.not_found      it answers, and has no such thing
`-- RefusedError
    `-- LookupUnusable       lookup.unusable       what it has cannot become a server here
"""

from __future__ import annotations

from harbourmaster.core.errors import NotFoundError, RefusedError, UnavailableError


class LookupUnavailable(UnavailableError):
    code = "lookup.unavailable"


class LookupMissing(NotFoundError):
    code = "lookup.not_found"


class LookupUnusable(RefusedError):
    code = "lookup.unusable"
