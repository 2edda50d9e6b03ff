"""From verified evidence to ``harbour.lock``: what was proved about an image is what the gateway will serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gateway.lock import LockedServer, pin_of, update_lock
from gateway.review import review
from harbourmaster.core.settings import Settings
from policies.errors import AttestationMissing
from policies.evidence import Evidence
from registry.oneshot import listing_of_tools
from registry.schema import Entry
from registry.target import Target
from registry.templates import splices
from registry.toolset import containers, is_toolset, part_name, set_digest

_SHOWN = ("tier", "version", "image", "signer", "profile", "run")  # beside the listing; the rest follows from these


def locked_server(entry: Entry, evidence: Evidence, *, profile_digest: str, enabled: bool) -> LockedServer:
    """The lock's line for ``entry``; the listing is the signed one, exactly as the server said it."""
    unsigned = evidence.signature is None and not entry.pinned
    if evidence.listing is None or evidence.sbom is None or unsigned:
        raise AttestationMissing(
            f"{entry.name}: a server without signature, SBOM and listing cannot be locked",
            remedy=f"run: hm registry build {entry.name}",
        )
    listing = evidence.listing.predicate
    return LockedServer(
        name=entry.name,
        tier=evidence.tier,
        version=entry.version,
        image=evidence.image,
        image_id=evidence.image_id,
        signer=evidence.signature.signer if evidence.signature else f"nobody; pinned by digest {entry.pinned}",
        sbom=evidence.sbom.digest,
        profile=profile_digest,
        pin=pin_of(listing),
        enabled=enabled,
        listing=listing,
        run=run_settings(entry),
    )


def locked_toolset(
    entry: Entry, evidence: Mapping[str, Evidence], *, profile_digest: str, enabled: bool
) -> LockedServer:
    """The line of an entry with an image for each tool; ``evidence`` by part.  What it offers is what the entry says."""
    for part in evidence.values():
        if part.sbom is None:
            raise AttestationMissing(
                f"{entry.name}: the image {part.image} has no SBOM", remedy=f"run: hm registry build {entry.name}"
            )
    listing = listing_of_tools(entry)
    signers = {part.signature.signer for part in evidence.values() if part.signature}
    return LockedServer(
        name=entry.name,
        tier=entry.tier,
        version=entry.version,
        image=set_digest(part.image for part in evidence.values()),
        image_id=set_digest(part.image_id for part in evidence.values()),
        signer=", ".join(sorted(signers)) or "nobody; each image is pinned by digest",
        sbom=", ".join(sorted(part.sbom.digest for part in evidence.values() if part.sbom)),
        profile=profile_digest,
        pin=pin_of(listing),
        enabled=enabled,
        listing=listing,
        run=run_of(entry, {name: part.image for name, part in evidence.items()}),
    )


def run_of(entry: Entry, images: Mapping[str, str]) -> dict[str, Any]:
    """What the lock's line says of how it runs; ``images``: manifest digest by part, for an entry with several."""
    return run_settings(entry) | (_tools(entry, images) if is_toolset(entry) else {})


def _tools(entry: Entry, images: Mapping[str, str]) -> dict[str, Any]:
    """A sandbox for each call; ``values``: what templates beside a call's own arguments stand for."""
    tools = {}
    for name, container in containers(entry).items():
        part = part_name(entry.name, container.image)
        tool = {"part": part, "image": images[part]}
        tools[name] = tool | {"command": list(container.command)} | ({"user": container.user} if container.user else {})
    defaults = {name: spec.default for name, spec in entry.config.parameters.items()}
    return {"tools": tools, "ephemeral": "call", "values": defaults}


def proved_line(
    entry: Entry, targets: Iterable[Target], check: Callable[[Target], Evidence], *, profile_digest: str, enabled: bool
) -> LockedServer:
    """The lock's line from evidence gathered now, for one image or for several.  Raises what ``check`` raises."""
    found = {target.part or target.name: check(target) for target in targets}
    return line_of(entry, found, profile_digest=profile_digest, enabled=enabled)


def line_of(entry: Entry, evidence: Mapping[str, Evidence], *, profile_digest: str, enabled: bool) -> LockedServer:
    """The lock's line; ``evidence`` by the server's name, or by part."""
    if is_toolset(entry):
        return locked_toolset(entry, evidence, profile_digest=profile_digest, enabled=enabled)
    return locked_server(entry, evidence[entry.name], profile_digest=profile_digest, enabled=enabled)


def as_approved(line: LockedServer, before: LockedServer | None, *, fresh: bool) -> LockedServer:
    """``line`` with the listing that a person approved for the same image; an image built just now was approved by nobody."""
    if before is None or fresh or before.image != line.image:
        return line
    return replace(line, listing=before.listing, pin=before.pin)


def changes(before: LockedServer | None, after: LockedServer, lock: Mapping[str, LockedServer]) -> list[str]:
    """What putting ``after`` in the place of ``before`` means, for a person to read; empty when it means nothing."""
    if before is None:
        lines = [f"+ server {after.name} {after.version} is new"]
        lines += (
            [f"    it runs elsewhere: {after.run['remote']['url']}"]
            if after.remote
            else [f"    image: {after.image}", f"    signer: {after.signer}"]
        )
    else:
        lines = [line for key in _SHOWN for line in _change(key, getattr(before, key), getattr(after, key))]
    neighbours = {name: server.listing for name, server in lock.items() if name != after.name}
    return lines + review(before.listing if before is not None else {}, after.listing, neighbours)


def _change(key: str, was: Any, now: Any) -> list[str]:
    if was == now:
        return []
    shown = [value if isinstance(value, str) else json.dumps(value, sort_keys=True) for value in (was, now)]
    return [f"~ {key}", f"    was: {shown[0]}", f"    now: {shown[1]}"]


def asks_for_more(before: LockedServer, after: LockedServer) -> bool:
    """Whether ``after`` may touch anything that ``before`` may not: hosts, private addresses, limits, relaxations, secrets, user."""
    was, now = before.run, after.run
    for part in ("hosts", "private"):
        if set(_network(now).get(part) or ()) - set(_network(was).get(part) or ()):
            return True
    limits = was.get("limits") or {}
    if any(name not in limits or value > limits[name] for name, value in (now.get("limits") or {}).items()):
        return True
    asked = was.get("asked") or {}
    if any(asked.get(name) != item for name, item in (now.get("asked") or {}).items() if name not in limits):
        return True
    known = {secret["name"] for secret in was.get("secrets") or ()}
    more = {secret["name"] for secret in now.get("secrets") or ()} - known
    return bool(more) or was.get("user", "") != now.get("user", "")


def _network(run: Mapping[str, Any]) -> Mapping[str, Any]:
    found = run.get("network")
    return found if isinstance(found, dict) else {}


def permissions(entry: Entry) -> list[str]:
    """What it may touch, in plain words, for whoever is asked to agree to it."""
    run = entry.run
    lines = [f"  network: {', '.join(run.network.hosts) or 'none'}"]
    lines += [f"  secret: {secret.name} ({secret.description})" for secret in entry.config.secrets]
    lines += [f"  more than usual: {k} {v.value}, because: {v.reason}" for k, v in run.sandbox if v is not None]
    for name, container in containers(entry).items():
        lines.append(f"  the tool {name} runs {container.image}, {' '.join(container.command) or 'as it is'}")
        if any(splices(text) for text in container.command):
            lines.append("    whoever calls it chooses all of its program's options")
    return [f"{entry.about.title} ({entry.name}), tier {entry.tier}", *lines]


def run_settings(entry: Entry) -> dict[str, Any]:
    """What the sandbox is started with: ``{command, env, limits, user?, network?, ephemeral?, stateless?, config?, secrets?}``, parameters at their defaults.

    ``config``: see ``configuration``.  ``secrets`` are names and where they go; never values.
    """
    run: dict[str, Any] = {"command": entry.command(), "env": entry.environment(), "limits": entry.limits()}
    if entry.run.user:
        run["user"] = entry.run.user
    if relaxed := entry.run.sandbox.asked():
        run["asked"] = relaxed
    if entry.run.network.hosts:
        run["network"] = {"hosts": list(entry.run.network.hosts), "private": list(entry.run.network.private)}
    if entry.run.ephemeral != "session":
        run["ephemeral"] = entry.run.ephemeral
    if entry.run.stateless:
        run["stateless"] = True
    if entry.config.parameters:
        run["config"] = configuration(entry)
    if entry.config.secrets:
        run["secrets"] = [secret.as_dict() for secret in entry.secrets()]
    return run


def configuration(entry: Entry) -> dict[str, Any]:
    """Templates and what fills them, so that a profile's values can change no more than was reviewed with the lock."""
    env = entry.run.env | {item.name: item.value for item in entry.config.env}
    return {"command": list(entry.run.command), "env": env, "schema": entry.config.json_schema()}


def write(settings: Settings, servers: Iterable[LockedServer]) -> None:
    """Put ``servers`` into the lock; a person's own enable and disable choices stay."""

    def change(lock: dict[str, LockedServer]) -> None:
        for server in servers:
            before = lock.get(server.name)
            lock[server.name] = (
                server if before is None else replace(server, enabled=before.enabled, granted=before.granted)
            )

    update_lock(settings.lock_file, change)
