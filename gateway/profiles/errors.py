"""Errors of profiles.

ProfileError (``HarbourError``; ``status`` is what HTTP answers with)
|-- ProfileUnknown      no such profile
|-- ProfileExists       a profile of that name is there already
|-- ProfileInvalid      its file says something it cannot (file, line, key)
`-- ProfileForbidden    this token is for other profiles
ConfigMissing           a server needs a value that this profile does not give
ConfigInvalid           a value does not fit the server's parameter
OverrideRefused         limits or secrets that the server or the sandbox does not have
"""

from __future__ import annotations

from typing import ClassVar

from harbourmaster.core.errors import ConfigError, HarbourError, RefusedError, UnavailableError


class ProfileError(HarbourError):
    code = "profile.error"
    status: ClassVar[int] = 404


class ProfileUnknown(ProfileError):
    code = "profile.unknown"


class ProfileExists(ProfileError):
    code = "profile.exists"
    status = 409


class ProfileInvalid(ProfileError):
    code = "profile.invalid"
    status = 503


class ProfileForbidden(ProfileError, RefusedError):
    code = "profile.forbidden"
    status = 403


class ConfigMissing(UnavailableError):
    code = "profile.config_missing"


class ConfigInvalid(ConfigError):
    code = "profile.config_invalid"


class OverrideRefused(RefusedError):
    code = "profile.override_refused"
