"""The engine calls a sandbox is made of.  Blocking; they run in the engine's worker threads."""

from __future__ import annotations

import io
import logging
import tarfile
import time
from dataclasses import dataclass
from typing import Any

import requests
from docker.errors import APIError, DockerException, NotFound

from sandbox import cgroups
from sandbox.engine import Engine, failures
from sandbox.errors import EngineFailed, StartFailed

log = logging.getLogger(__name__)

EXIT_WAIT_S = 2.0  # between a container's last byte and the engine's record of its exit lie milliseconds
MAX_REASON = 500  # characters of the engine's words; some quote the whole request
REMOVE_TRIES = 4  # the engine answers 409 or 500 while it is still taking a container down
REMOVE_PAUSE_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """``reason`` in words for people: "exited with status 3", "out of memory"."""

    status: int | None
    oom: bool
    reason: str


def create(engine: Engine, body: dict[str, Any], name: str) -> str:
    """POST /containers/create; the container's ID."""
    try:
        answer = engine.api.create_container_from_config(body, name)
    except APIError as e:
        raise _start_failed(name, e) from e
    except (DockerException, requests.RequestException) as e:
        raise EngineFailed(f"the engine could not make {name}: {e}", remedy="see: hm doctor") from e
    for warning in answer.get("Warnings") or ():
        engine.warn_once(warning)
    remove_leftovers(engine)
    return str(answer["Id"])


def own(engine: Engine, body: dict[str, Any], name: str) -> None:
    """Make the volumes of ``body`` its user's: the engine makes them root's.

    By a container with the same mounts that is never started: the engine unpacks an archive into it, whose one folder is
    the volume.  A sandbox itself takes none, because its root is read-only.
    """
    volumes = [mount for mount in body["HostConfig"].get("Mounts", ()) if mount["Type"] == "volume"]
    if not volumes:
        return
    never_started = {
        "Image": body["Image"],
        "Labels": body["Labels"],
        "HostConfig": {"Mounts": volumes, "NetworkMode": "none"},
    }
    container = create(engine, never_started, f"{name}-volumes")
    try:
        with failures("prepare a volume"):
            engine.api.put_archive(container, "/", _folders([v["Target"] for v in volumes], body["User"]))
    finally:
        remove(engine, container)


def _folders(paths: list[str], user: str) -> bytes:
    uid, _, gid = user.partition(":")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in paths:
            place = tarfile.TarInfo(path.lstrip("/"))
            place.type, place.mode, place.uid, place.gid = tarfile.DIRTYPE, 0o700, int(uid), int(gid or uid)
            archive.addfile(place)
    return buffer.getvalue()


def start(engine: Engine, container: str) -> None:
    try:
        engine.api.start(container)
    except APIError as e:
        raise _start_failed(container[:12], e) from e
    except (DockerException, requests.RequestException) as e:
        raise EngineFailed(f"the engine could not start {container[:12]}: {e}", remedy="see: hm doctor") from e


def _start_failed(name: str, error: APIError) -> StartFailed:
    return StartFailed(
        f"the engine refused to start {name}: {str(error.explanation or error)[:MAX_REASON]}",
        remedy="hm doctor checks the engine; hm verify checks the image",
        status=error.status_code,
    )


def signal(engine: Engine, container: str, name: str) -> None:
    """Send a signal; a container that is gone or not running is what was wanted."""
    try:
        engine.api.kill(container, name)
    except APIError as e:
        log.debug("signal %s to %s: %s", name, container[:12], e)
    except (DockerException, requests.RequestException) as e:
        log.warning("signal %s to %s: %s", name, container[:12], e)


def stats(engine: Engine, container: str) -> dict[str, Any]:
    """One reading of its counters, at once (``one-shot``, Docker Engine API 1.41)."""
    found = dict(engine.api.stats(container, stream=False, one_shot=True))
    if not found.get("memory_stats"):
        found |= cgroups.stats_of(int(engine.api.inspect_container(container)["State"]["Pid"]))
    return found


def memory_mb(stats: dict[str, Any]) -> float | None:
    """Usage less inactive file pages, as ``docker stats`` shows it (cgroup v1: total_inactive_file, v2: inactive_file)."""
    memory = stats.get("memory_stats") or {}
    details = memory.get("stats") or {}
    usage = memory.get("usage")
    if not isinstance(usage, int):
        return None
    droppable = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
    return (usage - droppable) / 2**20


def finish(engine: Engine, container: str, *, wait: bool) -> Outcome:
    """Make sure that it no longer runs, read how it ended, remove it.  ``wait``: it is ending by itself."""
    ended = wait and _wait(engine, container, EXIT_WAIT_S)
    if not ended:
        signal(engine, container, "SIGKILL")
        _wait(engine, container, EXIT_WAIT_S)
    outcome = _outcome(engine, container, closed_output=wait and not ended)
    remove(engine, container)
    return outcome


def _wait(engine: Engine, container: str, seconds: float) -> bool:
    try:
        engine.api.wait(container, timeout=seconds)
    except NotFound:
        return True
    except (DockerException, requests.RequestException):
        return False
    return True


def _outcome(engine: Engine, container: str, *, closed_output: bool) -> Outcome:
    try:
        state = engine.api.inspect_container(container)["State"]
    except (DockerException, requests.RequestException) as e:
        return Outcome(None, False, f"the engine lost it: {e}")
    status, oom = int(state["ExitCode"]), bool(state.get("OOMKilled"))
    if oom:
        return Outcome(status, True, "out of memory")
    if closed_output:
        return Outcome(status, False, "it closed its output and went on running, so it was killed")
    return Outcome(status, False, f"exited with status {status}")


def remove(engine: Engine, container: str) -> bool:
    """Kill and remove by ID or name, with its anonymous volumes.  False if it is still there after every try."""
    for attempt in range(REMOVE_TRIES):
        try:
            engine.api.remove_container(container, v=True, force=True)
        except NotFound:
            return True
        except (DockerException, requests.RequestException) as e:
            log.debug("remove %s, try %d: %s", container, attempt + 1, e)
            time.sleep(REMOVE_PAUSE_S * (attempt + 1))
        else:
            return True
    log.error("container %s could not be removed; it will be tried again when the engine answers", container)
    engine.leftovers.add(container)
    return False


def remove_leftovers(engine: Engine) -> None:
    """Remove what an engine that did not answer kept: the reaper leaves it alone while we live."""
    while engine.leftovers:
        container = engine.leftovers.pop()
        try:
            engine.api.remove_container(container, v=True, force=True)
        except NotFound:
            continue
        except (DockerException, requests.RequestException):
            engine.leftovers.add(container)
            return
