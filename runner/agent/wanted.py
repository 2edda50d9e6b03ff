"""What a person asks of a run, as the command line gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.agent.approval import Rule
from runner.agent.budget import Budget


@dataclass(frozen=True)
class Wanted:
    model: str
    profile: str
    url: str
    key: str
    gateway: str
    token: str
    tools: tuple[str, ...]
    fixed: tuple[str, ...]
    approve: Rule
    tool_choice: str  # auto, none, required, the name of a tool; empty: as the model and the task suggest
    budget: Budget
    resume: str
    system: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    parallel: bool = True
