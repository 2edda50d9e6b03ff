"""Why a caller does not get what they asked for.

CallRefused                      policy says no
ApprovalDenied, ApprovalTimeout  a person said no, or nobody said anything in time
ApprovalUnknown                  ``hm approve``: nothing of that ID waits
RateLimited, TooManyAtOnce       a limit of this caller; ``retry_after_s`` says when to come back
TokenRefused, IssuerUnreachable  an OAuth token that does not hold, or cannot be checked
LimitsInvalid, OAuthInvalid      config.toml
"""

from __future__ import annotations

from typing import Any

from harbourmaster.core.errors import ConfigError, LimitError, NotFoundError, RefusedError, UnavailableError


class CallRefused(RefusedError):
    """``scopes``: those of ours of which one would have been enough, where that is what was missing."""

    code = "auth.denied"

    def __init__(self, message: str, *, scopes: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(message, **more)
        self.scopes = scopes


class ApprovalDenied(RefusedError):
    code = "approval.denied"


class ApprovalTimeout(RefusedError):
    code = "approval.timeout"


class ApprovalUnknown(NotFoundError):
    code = "approval.unknown"


class RateLimited(LimitError):
    code = "limit.rate"

    def __init__(self, message: str, *, retry_after_s: int, **more: Any) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **more)
        self.retry_after_s = retry_after_s


class TooManyAtOnce(RateLimited):
    code = "limit.concurrent"


class TokenRefused(RefusedError):
    """``error``: the code of RFC 6750 section 3.1."""

    code = "auth.invalid"

    def __init__(self, message: str, *, error: str = "invalid_token", **more: Any) -> None:
        super().__init__(message, **more)
        self.error = error


class IssuerUnreachable(UnavailableError):
    code = "auth.issuer_unreachable"


class LimitsInvalid(ConfigError):
    code = "limit.config_invalid"


class OAuthInvalid(ConfigError):
    code = "oauth.config_invalid"
