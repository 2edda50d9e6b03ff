"""
HarbourError
|-- LoginNeeded        console.login_needed     nobody is logged in, or the session is over
|-- LoginRefused       console.login_refused    a token or link that lets nobody in
|-- RoleTooLow         console.role             the person may look, but not do this
|-- FormForged         console.csrf             a form that was not sent from a page of ours
|-- HostWrong          console.wrong_host       a host name that is not ours: DNS rebinding stops here
|-- OriginWrong        console.wrong_origin     a request that another web page made
|-- FormInvalid        console.form             a form or body that cannot be read, or is too large
|-- PageUnknown        console.unknown_page     no such page
|-- DraftUnknown       console.draft_unknown    no draft of that name
|-- Stale              console.stale            what was shown has changed since
|-- AddressInUse       console.address_in_use   another program has the port
|-- TooManyLogins      console.logins           too many logins to remote servers wait for their people
`-- Fault              console.fault            a fault of ours; its words are in the log alone
"""

from __future__ import annotations

from harbourmaster.core.errors import (
    HarbourError,
    LimitError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)


class LoginNeeded(RefusedError):
    code = "console.login_needed"


class LoginRefused(RefusedError):
    code = "console.login_refused"


class RoleTooLow(RefusedError):
    code = "console.role"


class FormForged(RefusedError):
    code = "console.csrf"


class HostWrong(RefusedError):
    code = "console.wrong_host"


class OriginWrong(RefusedError):
    code = "console.wrong_origin"


class FormInvalid(UsageError):
    code = "console.form"


class PageUnknown(NotFoundError):
    code = "console.unknown_page"


class DraftUnknown(NotFoundError):
    code = "console.draft_unknown"


class Stale(RefusedError):
    code = "console.stale"


class AddressInUse(UnavailableError):
    code = "console.address_in_use"


class TooManyLogins(LimitError):
    code = "console.logins"


class Fault(HarbourError):
    code = "console.fault"
