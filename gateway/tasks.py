"""Tasks: calls whose answer is fetched later, and who may ask which server about which.  Pure but for the clock it is told.

2025-11-25 (basic/utilities/tasks, an experiment of that revision): the client wants one by ``task`` in its call, then asks
``tasks/get``, ``tasks/result`` and ``tasks/cancel``.  2026-07-28 has them as the extension ``io.modelcontextprotocol/tasks``
(SEP-2663): the server decides, ``tasks/get`` carries the result, ``tasks/update`` the answers to its questions.  The two
have nothing in common on the wire, so no task crosses the eras.

A task's id is its server's own and passes unchanged.  A client may name the tasks that it was given and no other; they
lead to the sandbox that has them, which is kept for them, and to the policies for the tool that began them.  ``tasks/list``
is not offered: it would have to ask, and start, every server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gateway import eras
from gateway.errors import BadRequest, TaskLost, TaskTaken
from gateway.index import Index, Route
from gateway.limits import LIMITS
from gateway.pool_lease import OWN
from gateway.protocol import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY

if TYPE_CHECKING:
    from gateway.calls import Call
    from gateway.downstream import Downstream
    from gateway.upstream import Upstream

METHODS: Final = {
    False: frozenset({"tasks/get", "tasks/result", "tasks/cancel"}),  # handshake
    True: frozenset({"tasks/get", "tasks/update", "tasks/cancel"}),  # modern
}
STATUS_CHANGED: Final = "notifications/tasks/status"
OVER: Final = frozenset({"completed", "failed", "cancelled"})
OVER_S: Final = 300.0  # a task that is over is kept this long, for who comes back to it

Finder = Callable[[Index, dict[str, Any]], Route]


@dataclass(slots=True)
class Task:
    route: Route  # of the tool that began it
    sandbox: str
    lasts_s: float


class Tasks:
    """Those that one client was given, by id; the oldest is forgotten over ``LIMITS.tasks_per_client``."""

    def __init__(self) -> None:
        self._known: dict[str, Task] = {}

    def finder(self, client: Downstream, method: str) -> Finder | None:
        """What finds the server of a request about a task; None where nobody offers tasks to this client."""
        offered = client.index.extensions if client.modern else client.index.capabilities
        if method not in METHODS[client.modern] or not (eras.TASKS_EXTENSION in offered or "tasks" in offered):
            return None
        return lambda index, params: self._find(client, index, params)

    def _find(self, client: Downstream, index: Index, params: Mapping[str, Any]) -> Route:
        if client.modern and not eras.wants_tasks(client.capabilities):
            raise BadRequest(
                f"this request needs the extension {eras.TASKS_EXTENSION}, which its client does not declare",
                rpc=MISSING_REQUIRED_CLIENT_CAPABILITY,
                data={"requiredCapabilities": {"extensions": {eras.TASKS_EXTENSION: {}}}},
            )
        name = params.get("taskId")
        task = self._known.get(name) if isinstance(name, str) else None
        if task is None or task.route.server not in index.servers:
            raise BadRequest("Invalid params: that task is not known", rpc=INVALID_PARAMS)
        lease, server = client.leases.get(task.route.server), index.servers[task.route.server]
        anew = client.modern and server.remote  # whoever it is there does not remember connections
        alive = lease is not None and lease.ready and lease.upstream.ended is None
        if not anew and not (alive and lease is not None and lease.upstream.sandbox_id == task.sandbox):
            del self._known[str(name)]
            raise TaskLost(
                f"the sandbox of {task.route.server} ended, and its task with it", remedy="call the tool again"
            )
        return task.route

    def heard(
        self, call: Call, route: Route, params: Mapping[str, Any], result: Mapping[str, Any], upstream: Upstream
    ) -> None:
        """Take in the ``result`` of a call: it may begin a task, or tell of one.  Raises ``TaskTaken``."""
        now = upstream.loop.time()
        if call.method == "tools/call":
            said = created(result, upstream.modern)
            if said is not None and upstream.lease is not None and upstream.lease.kind == OWN:
                self._begin(said, call, route, upstream, now)
        elif call.method.startswith("tasks/") and (task := self._known.get(params["taskId"])) is not None:
            over = result.get("status") in OVER or call.method in ("tasks/result", "tasks/cancel")
            upstream.tasks[params["taskId"]] = now + (OVER_S if over else task.lasts_s)

    def _begin(self, said: Mapping[str, Any], call: Call, route: Route, upstream: Upstream, now: float) -> None:
        name = str(said["taskId"])
        known = self._known.get(name)
        if known is not None and (known.route.server, known.sandbox) != (route.server, upstream.sandbox_id):
            raise TaskTaken(
                f"{route.server} named its task like one of {known.route.server}", remedy="call again; tell its author"
            )
        lasts = said.get("ttl", said.get("ttlMs"))
        known_ms = isinstance(lasts, int | float) and not isinstance(lasts, bool) and lasts > 0
        lasts_s = min(lasts / 1000, LIMITS.task_s) if known_ms else LIMITS.task_s
        self._known[name] = Task(replace(route, schema=None), upstream.sandbox_id, lasts_s)
        if len(self._known) > LIMITS.tasks_per_client:
            del self._known[next(iter(self._known))]
        call.began_task = True
        upstream.keep_task(name, call, now + lasts_s)


def created(result: Mapping[str, Any], modern: bool) -> Mapping[str, Any] | None:
    """The task that ``result``, a tool call's, begins."""
    found = (result if result.get("resultType") == "task" else None) if modern else result.get("task")
    return found if isinstance(found, dict) and isinstance(found.get("taskId"), str) else None


def tool_result(call: Call, result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The tool's own result within ``result``, once there is one: what its output schema is about."""
    if call.method == "tasks/get":
        inner = result.get("result")
        return inner if isinstance(inner, dict) else None
    final = call.method in ("tools/call", "tasks/result") and not call.began_task
    return result if final and result.get("resultType") != "input_required" else None


def withhold(params: dict[str, Any]) -> None:
    """Have the server answer, and begin no task: its sandbox ends with the call, or its client knows no such task."""
    params.pop("task", None)
    meta = params.get("_meta")
    said = meta.get(eras.CLIENT_CAPABILITIES_META_KEY) if isinstance(meta, dict) else None
    if isinstance(meta, dict) and isinstance(said, dict):
        params["_meta"] = {**meta, eras.CLIENT_CAPABILITIES_META_KEY: eras.without_tasks(said)}


def may_begin(client: Downstream, upstream: Upstream) -> bool:
    """Whether a call over ``upstream`` may begin a task that ``client`` can come back to."""
    return client.modern == upstream.modern and upstream.lease is not None and upstream.lease.kind == OWN
