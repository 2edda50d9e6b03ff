"""Remove sandboxes that nobody owns any more.  The engine's labels are the only record, so a crash cannot lose it."""

from __future__ import annotations

from typing import Any

from sandbox import containers
from sandbox.engine import Engine, failures
from sandbox.owner import LABEL_HOME, LABEL_OWNER, LABEL_RELAY, LABEL_SANDBOX, is_alive

GONE = "gone"  # those whose owner no longer runs
ALL = "all"  # every sandbox of this home


def list_sandboxes(engine: Engine) -> list[dict[str, Any]]:
    """This home's sandboxes in any state, as GET /containers/json describes them."""
    return _labelled(engine, LABEL_SANDBOX)


def list_relays(engine: Engine) -> list[dict[str, Any]]:
    """This home's egress relays, likewise."""
    return _labelled(engine, LABEL_RELAY)


def _labelled(engine: Engine, label: str) -> list[dict[str, Any]]:
    labels = [f"{label}=1", f"{LABEL_HOME}={engine.home_label}"]
    with failures("list sandboxes"):
        found: list[dict[str, Any]] = engine.api.containers(all=True, filters={"label": labels})
    return found


def reap(engine: Engine, *, owner: str = GONE) -> int:
    """Remove by owner: ``"gone"``, ``"all"``, or one owner label; how many sandboxes were removed.  Blocking."""
    for relay in _due(list_relays(engine), owner):
        containers.remove(engine, relay)
    return sum(containers.remove(engine, container) for container in _due(list_sandboxes(engine), owner))


def _due(found: list[dict[str, Any]], owner: str) -> list[str]:
    return [c["Id"] for c in found if _is_due(c["Labels"].get(LABEL_OWNER, ""), owner)]


def _is_due(label: str, owner: str) -> bool:
    if owner == ALL:
        return True
    return not is_alive(label) if owner == GONE else label == owner
