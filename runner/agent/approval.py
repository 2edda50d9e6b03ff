"""Who says yes to a call.  What a tool does to the world is known only from its server's own word, so asking is the default."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from runner.agent.events import Call, Tool

Rule = Literal["always", "never", "ask"]
Verdict = Literal["allow", "refuse", "defer"]


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    why: str = ""


ALLOW = Decision("allow")
DEFER = Decision("defer")
Approve = Callable[[Call, Tool], Awaitable[Decision]]
Answer = Literal["yes", "no", "tool", "stop"]  # "tool": yes to this tool from now on
Ask = Callable[[Call, Tool], Awaitable[Answer]]


async def allow_all(_call: Call, _tool: Tool) -> Decision:
    return ALLOW


class Approver:
    """``always``: every call runs; ``never``: only tools that say they are read-only; ``ask``: those run, the others are asked about."""

    def __init__(self, rule: Rule, ask: Ask | None = None) -> None:
        self._rule, self._ask = rule, ask
        self._allowed: set[str] = set()

    async def __call__(self, call: Call, tool: Tool) -> Decision:
        if self._rule == "always" or tool.read_only or tool.name in self._allowed:
            return ALLOW
        if self._rule == "never":
            return Decision("refuse", "only tools that say they are read-only may run here")
        if self._ask is None:
            return Decision(
                "refuse", "nobody is there to approve it; start the run with --approve always to allow such calls"
            )
        answer = await self._ask(call, tool)
        if answer == "tool":
            self._allowed.add(tool.name)
        return ALLOW if answer in ("yes", "tool") else Decision("refuse", "the person refused it")
