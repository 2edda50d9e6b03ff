"""Which tool a person means: ``SERVER.TOOL``, ``server__tool``, the public name, or a bare name that only one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.cli_errors import ToolAmbiguous, ToolUnknown
from gateway.lock import LockedServer, read_lock
from gateway.names import public_names, qualified
from harbourmaster.core.settings import Settings


@dataclass(frozen=True)
class Tool:
    server: str
    name: str  # the server's own
    public: str  # what clients see
    body: Mapping[str, Any]

    @property
    def dotted(self) -> str:
        return f"{self.server}.{self.name}"

    @property
    def wire_name(self) -> str:
        """The name to call it by: right whatever else is enabled."""
        return qualified(self.server, self.name)

    @property
    def schema(self) -> Mapping[str, Any]:
        schema = self.body.get("inputSchema")
        return schema if isinstance(schema, dict) else {}


def tools_of(lock: Mapping[str, LockedServer], *, disabled: bool = False) -> list[Tool]:
    """The tools of the enabled servers (or of the disabled ones), as clients see them, in name order."""
    listed = {(s.name, t["name"]): t for s in lock.values() if s.enabled is not disabled for t in _tools(s)}
    public = public_names(listed)
    return [Tool(server, name, public[server, name], body) for (server, name), body in sorted(listed.items(), key=_key)]


def tools_of_profile(settings: Settings, profile: str) -> list[Tool]:
    """The tools of a profile, as its clients see them.  Raises ``ProfileUnknown``, ``ProfileInvalid``."""
    from gateway.profiles import shown  # `hm call` without a profile need not load it

    return shown.tools(shown.selected(profile, shown.load(settings, profile), read_lock(settings.lock_file)))


def find(lock: Mapping[str, LockedServer], text: str, tools: list[Tool] | None = None) -> Tool:
    """The one tool that ``text`` names; ``tools``: among these.  Raises ``ToolUnknown``, ``ToolAmbiguous``."""
    own, tools = tools is not None, tools_of(lock) if tools is None else tools
    exact = [t for t in tools if text in (t.dotted, t.public, t.wire_name)]
    found = exact or [t for t in tools if t.name == text]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(t.dotted for t in found)
        raise ToolAmbiguous(f"{text} could be any of {names}", remedy=f"say which, for instance: {found[0].dotted}")
    raise (
        ToolUnknown(f"the profile serves no tool {text}", remedy="see: hm profile show")
        if own
        else _unknown(lock, text)
    )


def _unknown(lock: Mapping[str, LockedServer], text: str) -> ToolUnknown:
    if not lock:
        return ToolUnknown(
            f"no tool named {text}: no server is built yet", remedy="build the starter servers: hm up --detach"
        )
    off = next((t for t in tools_of(lock, disabled=True) if text in (t.dotted, t.public, t.wire_name)), None)
    if off is not None:
        return ToolUnknown(f"{off.dotted} belongs to a disabled server", remedy=f"hm server enable {off.server}")
    server = text.partition(".")[0]
    if server in lock and lock[server].enabled:
        has = ", ".join(t.name for t in tools_of(lock) if t.server == server)
        return ToolUnknown(f"{server} has no such tool: {text}", remedy=f"it has: {has}")
    return ToolUnknown(f"no tool named {text}", remedy="see: hm tools ls")


def _tools(server: LockedServer) -> list[dict[str, Any]]:
    return list(server.listing.get("tools", []))


def _key(item: tuple[tuple[str, str], Any]) -> tuple[str, str]:
    return item[0]
