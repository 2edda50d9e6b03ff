"""Errors of the client connectors.

ConfigError
|-- ClientFileMalformed      the client's own file cannot be read as what it must be
|-- ClientFileUnwritable     it may not be read or replaced
`-- ClientEditUnsafe         the edit would have changed more than our entry
NotFoundError
`-- ClientUnknown            no such client in the table
UsageError
`-- ClientUnsupported        the client has no such transport or scope
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, NotFoundError, UsageError


class ClientFileMalformed(ConfigError):
    code = "client.file_malformed"


class ClientFileUnwritable(ConfigError):
    code = "client.file_unwritable"


class ClientEditUnsafe(ConfigError):
    code = "client.edit_unsafe"


class ClientUnknown(NotFoundError):
    code = "client.unknown"


class ClientUnsupported(UsageError):
    code = "client.unsupported"
