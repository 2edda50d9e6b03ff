"""The sandboxes that run now, as the engine's labels say: the truth also when no gateway runs.  Blocking."""

from __future__ import annotations

import threading
import time
from typing import Any

from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from sandbox import containers
from sandbox.engine import Engine
from sandbox.errors import SandboxUnknown
from sandbox.owner import LABEL_IMAGE, LABEL_OWNER, LABEL_SERVER, is_alive
from sandbox.reaper import list_sandboxes


class Docks:
    """Holds one connection to the engine, made when first asked and made anew after a failure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def sandboxes(self) -> list[dict[str, Any]]:
        """As `hm sandbox ps` and `stats`: name, id, server, state, age_s, gone, relaxed, memory, limit (bytes), cpu_s, pids."""
        engine = self._connected()
        try:
            found = list_sandboxes(engine)
            return list(engine.workers.map(lambda c: _row(c) | _usage(engine, c), found))
        except HarbourError:
            self._drop()
            raise

    def stop(self, identity: str) -> str:
        """Kill and remove one of this home's sandboxes by its whole ID; its server's name.  Raises ``SandboxUnknown``."""
        engine = self._connected()
        for container in list_sandboxes(engine):
            if container["Id"] == identity:
                containers.remove(engine, identity)
                return str(container["Labels"].get(LABEL_SERVER, ""))
        raise SandboxUnknown("that sandbox has ended already", remedy="see: hm sandbox ps")

    def close(self) -> None:
        self._drop()

    def _connected(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = Engine.connect(self._settings)
            return self._engine

    def _drop(self) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def _row(container: dict[str, Any]) -> dict[str, Any]:
    labels = container["Labels"]
    return {
        "name": str(container["Names"][0]).lstrip("/"),
        "id": container["Id"],
        "server": labels.get(LABEL_SERVER, ""),
        "state": container["State"],
        "age_s": max(0, int(time.time() - container["Created"])),
        "gone": not is_alive(labels.get(LABEL_OWNER, "")),
        "image": labels.get(LABEL_IMAGE, ""),
        "relaxed": labels.get("harbourmaster.relaxed", ""),
    }


def _usage(engine: Engine, container: dict[str, Any]) -> dict[str, Any]:
    """Zeros for one that does not run, or that ended meanwhile."""
    nothing = {"memory": 0, "limit": 0, "cpu_s": 0.0, "pids": 0}
    if container["State"] != "running":
        return nothing
    try:
        now = containers.stats(engine, container["Id"])
        memory = now.get("memory_stats") or {}
        return {
            "memory": memory.get("usage", 0),
            "limit": memory.get("limit", 0),
            "cpu_s": round(now["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, 2),
            "pids": (now.get("pids_stats") or {}).get("current", 0),
        }
    except Exception:  # whatever a client library says of a container that is gone: it is gone
        return nothing
