"""Where this machine's gateway is, and the token that opens it: read from its files, for it is another process's."""

from __future__ import annotations

import json
import re

from harbourmaster.core.running import gateway_url as running_gateway_url
from harbourmaster.core.settings import Settings
from runner.errors import RequestInvalid

_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def gateway_url(settings: Settings, given: str, profile: str) -> str:
    if profile and not _PROFILE.fullmatch(profile):
        raise RequestInvalid(f"{profile!r} is no profile's name", remedy="see hm profile ls", param="profile")
    base = given.rstrip("/") or running_gateway_url(settings)
    return f"{base}/{profile}" if profile else base


def gateway_token(settings: Settings) -> str:
    """The default token, from the gateway's file of tokens; empty where there is none yet."""
    try:
        rows = json.loads(settings.tokens_file.read_bytes())["tokens"]
        return next((str(row["token"]) for row in rows if row["name"] == "default" and "token" in row), "")
    except (OSError, ValueError, LookupError, TypeError):
        return ""
