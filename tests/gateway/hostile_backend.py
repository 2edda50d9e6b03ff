"""The tests' server, turned hostile: it asks, tells and answers more than anybody can bear.  Run as ``backend.py`` is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # as a program it knows nothing of the repository

from tests.gateway import backend


class Hostile(backend.Backend):
    def tool_curious(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """Asks ``count`` times with ``size`` bytes each before it answers with how many were refused."""
        self.refused, self.left, self.call = 0, arguments["count"], request_id
        schema = {"type": "object", "properties": {}}
        params = {"message": "x" * arguments["size"], "requestedSchema": schema}
        asked = {"jsonrpc": "2.0", "method": "elicitation/create", "params": params}
        sys.stdout.write("".join(json.dumps({**asked, "id": f"q{number}"}) + "\n" for number in range(self.left)))
        sys.stdout.flush()

    def tool_noisy(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """Tells ``count`` things of ``size`` bytes each that nobody listens to."""
        self.text(request_id, "done")
        for _ in range(arguments["count"]):
            self.say(method="notifications/message", params={"level": "info", "data": "x" * arguments["size"]})
        self.say(method="notifications/message", params={"level": "info", "data": "last"})

    def tool_repeat(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        self.text(request_id, arguments["text"] * arguments["count"])

    def tool_nested(self, request_id: Any, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        value: dict[str, Any] = {}
        for _ in range(arguments["depth"]):
            value = {"x": value}
        self.text(request_id, "nested", structuredContent=value)

    def answered(self, body: dict[str, Any]) -> None:
        if not str(body["id"]).startswith("q"):
            super().answered(body)
            return
        self.left -= 1
        self.refused += "error" in body
        if not self.left:
            self.text(self.call, str(self.refused))


if __name__ == "__main__":
    backend.main(Hostile)
