"""What a server may touch, in words, and a digest of it that stands for a person's yes.  Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.lock import LockedServer
from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.secrets import declared_from
from sandbox.access import explained

QUESTION: Final = "consent"  # the input request's key, for modern clients
ELICIT: Final = "elicitation/create"
_STATE: Final = "consent:"


def touches(server: LockedServer) -> dict[str, Any]:
    """All that adding ``server`` gives it; any difference is another digest."""
    run = server.run
    network = run.get("network") or {}
    return {
        "server": server.name,
        "version": server.version,
        "tier": server.tier,
        "signer": server.signer,
        "image": server.image,
        "tools": [tool["name"] for tool in server.listing.get("tools", [])],
        "network": sorted(network.get("hosts") or ()),
        "private_network": sorted(network.get("private") or ()),
        "secrets": sorted(each.name for each in declared_from(run)),
        "limits": [f"{name}={value}" for name, value in sorted((run.get("limits") or {}).items())],
        "asks_for": explained(run.get("asked") or {}, server.granted),
        "more_than_its_entry": list(server.relaxed),
        "runs_elsewhere": _address(run.get("remote")),
    }


def digest(server: LockedServer) -> str:
    return canonical_digest(
        {"touches": touches(server), "pin": server.pin, "run": server.run, "granted": server.granted}
    )


def words(server: LockedServer) -> str:
    """For a person, one line each."""
    found = touches(server)
    where = f"runs elsewhere: {found['runs_elsewhere']}" if found["runs_elsewhere"] else "runs in a sandbox of its own"
    lines = [
        f"{server.name} {server.version} (tier {server.tier}, signed by {server.signer or 'nobody'}) {where}.",
        f"Network: {', '.join(found['network']) or 'none'}"
        + (f"; may be private: {', '.join(found['private_network'])}" if found["private_network"] else ""),
        f"Secrets it gets: {', '.join(found['secrets']) or 'none'}",
        f"Limits of its own: {', '.join(found['limits']) or 'none'}",
    ]
    lines += [f"It asks for: {each}" for each in found["asks_for"]]
    if found["more_than_its_entry"]:
        lines.append(f"More than its entry asks for: {', '.join(found['more_than_its_entry'])}")
    names = found["tools"]
    lines.append(f"Tools ({len(names)}): {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}")
    return "\n".join(lines)


def question(server: LockedServer) -> dict[str, Any]:
    """The parameters of ``elicitation/create``."""
    return {
        "mode": "form",
        "message": f"Add the server {server.name} to this conversation?\n\n{words(server)}",
        "requestedSchema": {
            "type": "object",
            "properties": {
                "allow": {
                    "type": "boolean",
                    "title": "Allow",
                    "description": "let it touch what is listed above",
                    "default": False,
                }
            },
            "required": ["allow"],
        },
    }


def agreed(answer: Any) -> bool:
    """Whether the result of an elicitation is a yes."""
    if not isinstance(answer, dict) or answer.get("action") != "accept":
        return False
    content = answer.get("content")
    return isinstance(content, dict) and content.get("allow") is True


def state_of(server: LockedServer) -> str:
    """What a modern client gives back with its answer: it binds the yes to what was asked."""
    return _STATE + digest(server)


def _address(remote: Any) -> str:
    return str(remote.get("url", "")) if isinstance(remote, dict) else ""
