"""
HarbourError
|-- SourceUnreadable        source.unreadable     a source as a whole cannot be read
|-- SourceUnavailable       source.unavailable    a registry does not answer
|-- SourceCursorInvalid     source.bad_cursor     a registry refuses the place where the last sync stopped
|-- SourceUnknown           source.unknown        no source has that name
|-- SourceExists            source.exists         another source has that name
|-- EntryUnreadable         entry.unreadable      one entry cannot be read; the others go on
|-- EntryUnknown            entry.unknown         no entry has that name
|-- QueryInvalid            search.invalid        a search that cannot be understood
|-- EmbedderUnavailable     search.no_embedder    no embedding model answers; search goes on by words
|-- AdvisoryUnreadable      advisory.unreadable   one OSV record cannot be read
|-- VersionPublished        publish.exists        that version is published and stays as it is
|-- NameTaken               publish.taken         another source lists that name
|-- PublicationInvalid      publish.invalid       what is to be published could not run safely
`-- StatementInvalid        vex.invalid           a "not affected" statement without a known justification
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, NotFoundError, UnavailableError, UsageError


class SourceUnreadable(ConfigError):
    code = "source.unreadable"


class SourceUnavailable(UnavailableError):
    code = "source.unavailable"


class SourceCursorInvalid(UnavailableError):
    code = "source.bad_cursor"


class SourceUnknown(NotFoundError):
    code = "source.unknown"


class SourceExists(UsageError):
    code = "source.exists"


class EntryUnreadable(ConfigError):
    code = "entry.unreadable"


class EntryUnknown(NotFoundError):
    code = "entry.unknown"


class QueryInvalid(UsageError):
    code = "search.invalid"


class VersionPublished(UsageError):
    code = "publish.exists"


class NameTaken(UsageError):
    code = "publish.taken"


class PublicationInvalid(UsageError):
    code = "publish.invalid"


class EmbedderUnavailable(UnavailableError):
    code = "search.no_embedder"


class AdvisoryUnreadable(ConfigError):
    code = "advisory.unreadable"


class StatementInvalid(UsageError):
    code = "vex.invalid"
