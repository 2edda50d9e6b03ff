"""What a server says it offers, asked of it while it runs without a network: the listing attestation's predicate."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from harbourmaster.core.secrets.delivery import Delivery, delivery_of
from harbourmaster.core.settings import Settings
from registry.build.errors import ListingFailed
from registry.build.image import Built
from registry.schema import Entry
from registry.session import METHOD_NOT_FOUND, RpcError, Session, open_session
from sandbox.access import Access
from sandbox.engine import Engine
from sandbox.profile import Profile
from sandbox.spec import SandboxSpec

MAX_PAGES = 100  # the protocol sets no limit; the largest servers of today answer in one
MAX_ITEMS = 10_000
MAX_ROUNDS = 3  # of a server whose lists never settle, the last answer counts
# capability -> (key in the listing, method, key in the result)
_LISTS = {
    "tools": (("tools", "tools/list", "tools"),),
    "prompts": (("prompts", "prompts/list", "prompts"),),
    "resources": (
        ("resources", "resources/list", "resources"),
        ("resourceTemplates", "resources/templates/list", "resourceTemplates"),
    ),
}
_KEPT = ("protocolVersion", "serverInfo", "capabilities", "instructions")


def sandbox_spec(
    entry: Entry,
    image_id: str,
    manifest: str,
    values: dict[str, Any] | None = None,
    secrets: Delivery | None = None,
) -> SandboxSpec:
    """How ``entry`` runs with its defaults, or with a person's ``values`` and ``secrets``.

    Placeholders stand in for required secrets: many servers list their tools only when they have some key.
    """
    delivery = secrets or delivery_of(entry.placeholders())
    return SandboxSpec(
        server=entry.name,
        image_id=image_id,
        image=manifest,
        command=tuple(entry.command(values)),
        env=entry.environment(values) | dict(delivery.env),
        secret_env=delivery.secret_env,
        secret_files=delivery.files,
        user=entry.run.user or "",
        limits=entry.limits(),
        access=unattended(entry.access()),
    )


def unattended(access: Access) -> Access:
    """Without the host's folders and what is kept: a server lists its tools before anyone agreed to give it those."""
    return replace(
        access, host_paths=(), volumes=(), writable=tuple(dict.fromkeys([*access.writable, *access.volumes]))
    )


def listing_of(engine: Engine, profile: Profile, entry: Entry, built: Built, settings: Settings) -> dict[str, Any]:
    """Run the image and list it; the objects are the server's own, unchanged.  Raises ``ListingFailed``."""
    spec = sandbox_spec(entry, built.image_id, built.manifest)
    return asyncio.run(_list(engine, profile, spec, settings.start_timeout_s))


async def _list(engine: Engine, profile: Profile, spec: SandboxSpec, timeout_s: float) -> dict[str, Any]:
    async with open_session(engine, profile, spec, timeout_s=timeout_s) as session:
        return await collect(session)


async def collect(session: Session) -> dict[str, Any]:
    """All pages of all lists that the server's capabilities name; the others are empty lists.

    Read again when the server said meanwhile that one changed: some add tools once they know the client.
    """
    for _ in range(MAX_ROUNDS):
        session.lists_changed = False
        listing = await _collect(session)
        if not session.lists_changed:
            break
    return listing


async def _collect(session: Session) -> dict[str, Any]:
    listing: dict[str, Any] = {key: session.initialized[key] for key in _KEPT if key in session.initialized}
    offered = listing.get("capabilities") or {}
    for capability, lists in _LISTS.items():
        for key, method, result_key in lists:
            listing[key] = await _pages(session, method, result_key) if capability in offered else []
    return listing


async def _pages(session: Session, method: str, key: str) -> list[Any]:
    items: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        try:
            result = await session.request(method, {"cursor": cursor} if cursor is not None else {})
        except RpcError as e:
            if e.code == METHOD_NOT_FOUND or method.startswith("resources/"):
                return []  # resources are data: a database without a network has none to show
            raise ListingFailed(f"{session.server} refused {method}: {e.message}", remedy="mend the server") from e
        page = result.get(key)
        if not isinstance(page, list):
            raise ListingFailed(f"{session.server} answered {method} without {key}", remedy="mend the server")
        items += page
        previous, cursor = cursor, result.get("nextCursor")
        if cursor is None:
            return items
        if cursor == previous or len(items) > MAX_ITEMS:
            break
    raise ListingFailed(f"{session.server}: {method} does not end", remedy="mend the server's pagination")
