"""What the conformance server says it offers, asked of it in a sandbox, in either era."""

from __future__ import annotations

from typing import Any

from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
)

from gateway.eras import LATEST_MODERN_VERSION
from registry.listing import collect
from registry.session import CAPABILITIES, CLIENT_INFO, Session, open_session
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec

TIMEOUT_S = 60
ENVELOPE = {
    PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
    CLIENT_INFO_META_KEY: CLIENT_INFO,
    CLIENT_CAPABILITIES_META_KEY: CAPABILITIES,
}
LISTS = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
}


async def handshake_listing(engine: Engine, profile: Profile, spec: SandboxSpec) -> dict[str, Any]:
    async with open_session(engine, profile, spec, timeout_s=TIMEOUT_S) as session:
        return await collect(session)


async def modern_listing(engine: Engine, profile: Profile, spec: SandboxSpec) -> dict[str, Any]:
    session = Session(spec.server, TIMEOUT_S)
    box = await Sandbox.start(engine, profile, spec, on_line=session.on_line, on_exit=session.on_exit)
    session.use(box)
    try:
        about = await session.request("server/discover", {"_meta": ENVELOPE})
        listing: dict[str, Any] = {
            "protocolVersion": LATEST_MODERN_VERSION,
            "serverInfo": about["_meta"][SERVER_INFO_META_KEY],
            "capabilities": about["capabilities"],
        }
        for key, method in LISTS.items():
            listing[key] = (await session.request(method, {"_meta": ENVELOPE}))[key]
        return listing
    finally:
        await box.stop(grace_s=0.2)
