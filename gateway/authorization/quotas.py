"""Limits per caller and server: so many calls a minute, so many at once.  Pure but for the clock handed in.

A token bucket per rule, caller and server: it holds ``burst`` calls and fills at the rule's rate.  What is over is refused
at once and told when to come back; nothing waits in a queue that a caller could fill.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.authorization.errors import LimitsInvalid, RateLimited, TooManyAtOnce


class LimitRule(BaseModel):
    """One ``[[gateway_limits]]`` of config.toml; names may hold ``*``.  Every rule that fits counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    principal: str = "*"
    server: str = "*"
    per_minute: float | None = Field(default=None, gt=0)
    burst: int | None = Field(default=None, ge=1)  # how many at once after a pause; default: a tenth of a minute's
    concurrent: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _limits_something(self) -> LimitRule:
        if self.per_minute is None and self.concurrent is None:
            raise ValueError("it limits nothing: write per_minute or concurrent")
        if self.burst is not None and self.per_minute is None:
            raise ValueError("burst goes with per_minute")
        return self

    @classmethod
    def read(cls, rows: Sequence[Any]) -> tuple[LimitRule, ...]:
        try:
            return tuple(cls.model_validate(row) for row in rows)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "a rule"
            raise LimitsInvalid(
                f"gateway_limits: {where}: {first['msg']}", remedy="correct [[gateway_limits]] in config.toml"
            ) from e


@dataclass(slots=True)
class Quota:
    """What one rule allows one caller with one server, and how much of it is used."""

    rule: LimitRule
    who: str
    running: int = 0
    tokens: float = 0.0
    filled: float = -math.inf

    def enter(self, now: float) -> None:
        """Count a call; ``leave`` must follow.  Raises ``RateLimited``, ``TooManyAtOnce``, and has then counted nothing."""
        rule = self.rule
        if rule.concurrent is not None and self.running >= rule.concurrent:
            raise TooManyAtOnce(
                f"{self.who} has {self.running} calls in flight, and may have {rule.concurrent}",
                remedy="wait for one to end, or raise concurrent in [[gateway_limits]]",
                retry_after_s=1,
            )
        if rule.per_minute is not None:
            self._take(now, rule.per_minute)
        self.running += 1

    def leave(self) -> None:
        self.running -= 1

    def _take(self, now: float, per_minute: float) -> None:
        most = float(self.rule.burst or max(1, math.ceil(per_minute / 10)))
        rate = per_minute / 60
        self.tokens = min(most, self.tokens + (now - self.filled) * rate)
        self.filled = now
        if self.tokens < 1:
            wait = max(1, math.ceil((1 - self.tokens) / rate))
            raise RateLimited(
                f"{self.who} may make {per_minute:g} calls a minute",
                remedy=f"call again in {wait} s, or raise per_minute in [[gateway_limits]]",
                retry_after_s=wait,
            )
        self.tokens -= 1


class Quotas:
    def __init__(self, rules: Iterable[LimitRule]) -> None:
        self._rules = tuple(rules)
        self._quotas: dict[tuple[int, str, str], Quota] = {}

    def of(self, principal: str, server: str) -> tuple[Quota, ...]:
        """Those that apply; the same objects every time, so that a new session of a caller starts with what is left."""
        found = []
        for number, rule in enumerate(self._rules):
            if fnmatchcase(principal, rule.principal) and fnmatchcase(server, rule.server):
                key = (number, principal, server)
                if key not in self._quotas:
                    self._quotas[key] = Quota(rule, f"{principal} with {server}")
                found.append(self._quotas[key])
        return tuple(found)


def enter(quotas: tuple[Quota, ...], now: float) -> None:
    """All or none."""
    for number, quota in enumerate(quotas):
        try:
            quota.enter(now)
        except RateLimited:
            for done in quotas[:number]:
                done.leave()
            raise


def leave(quotas: tuple[Quota, ...]) -> None:
    for quota in quotas:
        quota.leave()
