"""A small MCP server whose calls may become tasks, in the manner of either era; started as `tests/gateway/backend.py` is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a program it knows nothing of the repository

from tests.gateway.backend import Backend, main, tool
from tests.gateway.backend import listing as backend_listing

JOB_RESULT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
JOBS = [
    tool("job", execution={"taskSupport": "optional"}),
    tool("promise", outputSchema=JOB_RESULT, execution={"taskSupport": "optional"}),
    tool("delegate"),
    tool("snoop"),
    tool("die"),
    tool("visit"),
]
EXTENSION = "io.modelcontextprotocol/tasks"
HANDSHAKE = {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}
MODERN = {"tools": {}, "extensions": {EXTENSION: {}}}


def listing(name: str, *, modern: bool = False) -> dict[str, Any]:
    """Of a server whose calls may become tasks; run it with ``OPTIONS``."""
    capabilities = MODERN if modern else HANDSHAKE
    empty: dict[str, Any] = {"prompts": [], "resources": [], "resourceTemplates": []}
    return backend_listing(name, modern=modern, capabilities=capabilities, tools=JOBS, **empty)


OPTIONS = json.dumps({"tools": JOBS, "prompts": [], "resources": [], "resourceTemplates": []})


class Jobs(Backend):
    def __init__(self, name: str, modern: bool) -> None:
        super().__init__(name, modern)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.steps: dict[Any, Any] = {}  # id of our request -> what to do with the answer

    def answered(self, body: dict[str, Any]) -> None:
        step = self.steps.pop(body["id"], None)
        if step is not None:
            step(body)
        else:
            super().answered(body)

    def tool_job(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """A task where the client wants one: over at the second look; ``name``: its id; ``ask``: it asks a person first."""
        able = params.get("_meta", {}).get("io.modelcontextprotocol/clientCapabilities", {}).get("extensions", {})
        if EXTENSION not in able if self.modern else "task" not in params:
            self.text(request_id, json.dumps({"at once": True, "task": params.get("task")}))
            return
        name = arguments.get("name") or f"{self.name}-job-{len(self.jobs) + 1}"
        token = params.get("_meta", {}).get("progressToken")
        status = "input_required" if self.modern and arguments.get("ask") else "working"
        self.jobs[name] = {"status": status, "looks": 0, "token": token, **arguments}
        made = self.job(name)
        self.say(id=request_id, result={"resultType": "task", **made} if self.modern else {"task": made})

    tool_promise = tool_job

    def job(self, name: str) -> dict[str, Any]:
        at = "2026-01-01T00:00:00Z"
        said = {"taskId": name, "status": self.jobs[name]["status"], "createdAt": at, "lastUpdatedAt": at}
        return {**said, "ttlMs": 60_000} if self.modern else {**said, "ttl": 60_000, "pollInterval": 10}

    def job_done(self, name: str) -> dict[str, Any]:
        text = {"content": [{"type": "text", "text": f"{name} is done {self.jobs[name].get('heard', '')}"}]}
        return {**text, "structuredContent": {"n": self.jobs[name].get("n", 1)}, "x-kept": 1}

    def on_tasks_get(self, request_id: Any, params: dict[str, Any]) -> None:
        job = self.jobs.get(params["taskId"])
        if job is None:
            self.say(id=request_id, error={"code": -32602, "message": "no such task"})
            return
        job["looks"] += 1
        if job["token"] is not None:
            self.say(method="notifications/progress", params={"progressToken": job["token"], "progress": job["looks"]})
        if job["status"] == "working" and job["looks"] > 1:
            job["status"] = "completed"
        more: dict[str, Any] = {"resultType": "complete"} if self.modern else {}
        if self.modern and job["status"] == "completed":
            more["result"] = self.job_done(params["taskId"])
        if job["status"] == "input_required":
            more["inputRequests"] = {"k": {"method": "elicitation/create", "params": {"message": "Who?"}}}
        self.say(id=request_id, result={**self.job(params["taskId"]), **more})

    def on_tasks_update(self, request_id: Any, params: dict[str, Any]) -> None:
        job = self.jobs[params["taskId"]]
        job["status"], job["heard"] = "working", json.dumps(params["inputResponses"])
        self.say(id=request_id, result={"resultType": "complete"})

    def on_tasks_result(self, request_id: Any, params: dict[str, Any]) -> None:
        name = params["taskId"]
        related = {"io.modelcontextprotocol/related-task": {"taskId": name}}

        def finish(answer: Any) -> None:
            self.jobs[name]["heard"] = json.dumps(answer)
            self.say(id=request_id, result={**self.job_done(name), "_meta": related})

        if self.jobs[name].get("ask"):
            self.then("elicitation/create", {"message": "Who?", "_meta": related}, lambda b: finish(b.get("result")))
        else:
            finish("nothing")

    def on_tasks_cancel(self, request_id: Any, params: dict[str, Any]) -> None:
        self.jobs[params["taskId"]]["status"] = "cancelled"
        if self.modern:
            self.say(id=request_id, result={"resultType": "complete"})
            return
        self.say(method="notifications/tasks/status", params=self.job(params["taskId"]))
        self.say(id=request_id, result=self.job(params["taskId"]))

    def then(self, method: str, params: dict[str, Any], step: Any) -> None:
        self.asked += 1
        self.steps[f"q{self.asked}"] = step
        self.say(id=f"q{self.asked}", method=method, params=params)

    def tool_delegate(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """Have the client sample in a task of its own, and fetch what it said."""

        def fetch(body: dict[str, Any]) -> None:
            named = {"taskId": body["result"]["task"]["taskId"]}
            self.then(
                "tasks/result", named, lambda b: self.text(request_id, json.dumps(b.get("result", b.get("error"))))
            )

        self.then("sampling/createMessage", {"messages": [], "maxTokens": 5, "task": {"ttl": 1000}}, fetch)

    def tool_snoop(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """Ask about a task that the client made for somebody else."""
        self.then("tasks/get", arguments, lambda b: self.text(request_id, json.dumps(b.get("result", b.get("error")))))

    def tool_die(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        os._exit(3)

    def tool_visit(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """A person must have visited an address before this call (2025-11-25, "URL Elicitation Required Error")."""
        self.count += 1
        if self.count == 1:
            address = {"mode": "url", "message": "Sign in", "url": "https://as.example/go", "elicitationId": "e-1"}
            self.say(id=request_id, error={"code": -32042, "message": "first", "data": {"elicitations": [address]}})
            return
        self.say(method="notifications/elicitation/complete", params={"elicitationId": "e-1"})
        self.text(request_id, json.dumps({"left": sorted(k for k in params if k.startswith(("input", "request")))}))


if __name__ == "__main__":
    main(Jobs)
