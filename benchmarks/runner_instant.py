"""Our server around an engine that has always answered already: what is left is HTTP, checking and scheduling.

python -m benchmarks.runner_instant PORT      (HM_HOME: a home whose store has a model)
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import runner.service
from harbourmaster.core.settings import Settings
from runner.engine.spec import EngineSpec
from runner.server import serve


class Instant:
    alive, pid, ready, logged = True, 0, {"template": ""}, 0

    def __init__(self, spec: EngineSpec) -> None:
        self.spec, self.log = spec, deque[str]()

    def resident_bytes(self) -> int:
        return 1

    async def ask(self, _frame: dict[str, Any]) -> Any:
        return 1

    async def stop(self) -> None:
        pass

    async def stream(self, _frame: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0}
        yield {"ev": "delta", "text": "Hi"}
        yield {"ev": "done", "reason": "stop", "stop": "", "usage": usage, "timings": {}}


async def _start(spec: EngineSpec, *, on_exit: Any) -> Any:
    return Instant(spec)


if __name__ == "__main__":
    runner.service.start_engine = _start
    serve(Settings.load(), port=int(sys.argv[1]))
