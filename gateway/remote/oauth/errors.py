"""What can go wrong on the way to a token.

RefusedError
|-- DiscoveryRefused     metadata that contradict themselves, or lead astray       oauth.discovery
|-- AuthorizationRefused the authorization server or the person said no            oauth.refused
|-- RedirectForged       an answer that is not to our question                     oauth.redirect
UnavailableError
|-- DiscoveryFailed      the server names no authorization server that answers     oauth.no_metadata
|-- ClientUnknown        we are no client of that authorization server             oauth.no_client
|-- TokenFailed          the token endpoint gave no token                          oauth.no_token
`-- NobodyAnswered       no redirect came in time                                  oauth.timeout
"""

from __future__ import annotations

from harbourmaster.core.errors import RefusedError, UnavailableError


class DiscoveryRefused(RefusedError):
    code = "oauth.discovery"


class AuthorizationRefused(RefusedError):
    code = "oauth.refused"


class RedirectForged(RefusedError):
    code = "oauth.redirect"


class DiscoveryFailed(UnavailableError):
    code = "oauth.no_metadata"


class ClientUnknown(UnavailableError):
    code = "oauth.no_client"


class TokenFailed(UnavailableError):
    """``gone``: the grant itself is over, a new login is needed."""

    code = "oauth.no_token"
    gone = False


class GrantOver(TokenFailed):
    gone = True


class NobodyAnswered(UnavailableError):
    code = "oauth.timeout"
