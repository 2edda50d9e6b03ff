"""Errors of setting up and supervising."""

from harbourmaster.core.errors import ConfigError, EngineError, HarbourError, LimitError, RefusedError, UnavailableError


class EngineMissing(EngineError):
    code = "engine.missing"


class InstallRefused(EngineMissing):
    """A person (or the absence of one) said no to installing packages."""

    code = "engine.install_refused"


class InstallFailed(EngineError):
    code = "engine.install_failed"


class EngineDidNotStart(EngineError):
    code = "engine.did_not_start"


class GatewayDidNotStart(UnavailableError):
    code = "gateway.did_not_start"


class NoRoom(LimitError):
    code = "up.no_room"


class NoServerBuilt(HarbourError):
    code = "up.no_server"


class ListingChanged(RefusedError):
    """A server that was built anew offers something else, and nobody agreed to it."""

    code = "lock.listing_changed"


class PortTaken(ConfigError):
    code = "gateway.port_taken"


class NameTaken(RefusedError):
    """A server of another catalog has the name of one that is here."""

    code = "entry.name_taken"
