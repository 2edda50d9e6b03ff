"""What can go wrong between the gateway and a server that runs elsewhere.

UnavailableError
|-- RemoteUnreachable       no connection, or it broke                       remote.unreachable
|-- RemoteFailed            an answer that is no MCP answer                  remote.failed
|-- RemoteSessionLost       the server forgot our session                    remote.session_lost
|-- RemoteCut               the stream ended before the answer               remote.cut
|-- RemoteClosed            the connection was given up                      remote.closed
`-- LoginRequired           it wants a token that nobody has given us        remote.login_required
RefusedError
|-- RemoteRedirected        it sent us elsewhere                             remote.redirected
|-- RemoteForbidden         it refuses what we sent                          remote.forbidden
|-- NameTaken               a server that runs here has that name          remote.name_taken
|-- ScopeRequired           the token allows less than the call needs        remote.scope_required
`-- RemoteInsecure          plain HTTP to another machine                    remote.insecure
LimitError
`-- RemoteTooLarge          an answer over a limit                           remote.too_large
ConfigError
`-- RemoteInvalid           an entry that cannot be served                   remote.invalid
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, LimitError, RefusedError, UnavailableError


class RemoteUnreachable(UnavailableError):
    code = "remote.unreachable"


class RemoteFailed(UnavailableError):
    code = "remote.failed"


class RemoteSessionLost(UnavailableError):
    code = "remote.session_lost"


class RemoteCut(UnavailableError):
    code = "remote.cut"


class RemoteClosed(UnavailableError):
    code = "remote.closed"


class LoginRequired(UnavailableError):
    """``challenge``: the WWW-Authenticate header, which says where to begin."""

    code = "remote.login_required"

    def __init__(self, message: str, *, remedy: str = "", challenge: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.challenge = challenge


class RemoteRedirected(RefusedError):
    code = "remote.redirected"


class RemoteForbidden(RefusedError):
    code = "remote.forbidden"


class ScopeRequired(RefusedError):
    """``challenge``: the WWW-Authenticate header that named the scopes."""

    code = "remote.scope_required"

    def __init__(self, message: str, *, remedy: str = "", challenge: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.challenge = challenge


class NameTaken(RefusedError):
    code = "remote.name_taken"


class RemoteInsecure(RefusedError):
    code = "remote.insecure"


class RemoteTooLarge(LimitError):
    code = "remote.too_large"


class RemoteInvalid(ConfigError):
    code = "remote.invalid"
