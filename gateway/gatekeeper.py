"""What stands between a client's request and a server: authorization, limits, interceptors, a person's yes; and between
the answer and the client: interceptors again.

``enter`` is all that a usual call pays for; ``settle`` is only awaited where somebody has to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.authorization import quotas
from gateway.authorization.approvals import Approvals, Record, is_ours, print_of
from gateway.authorization.authorizer import Authorizer
from gateway.authorization.errors import CallRefused
from gateway.authorization.quotas import LimitRule, Quotas
from gateway.authorization.things import OURS
from gateway.calls import Call
from gateway.downstream import Downstream
from gateway.index import Index, Route
from gateway.interceptors.config import Hook, InterceptorsConfig
from gateway.interceptors.hooks import Ask, Hooks
from gateway.interceptors.pipeline import Pipeline
from gateway.lock import LockedServer
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, Decision


class Gatekeeper:
    def __init__(self, authorizer: Authorizer, pipeline: Pipeline, approvals: Approvals) -> None:
        self.authorizer = authorizer
        self.pipeline = pipeline
        self._approvals = approvals

    @classmethod
    def of(cls, settings: Settings, record: Record, in_sandbox: Callable[[Hook], Ask]) -> Gatekeeper:
        """As config.toml and HM_HOME/policies/calls say; raises what is wrong with them."""
        limits = Quotas(LimitRule.read(settings.gateway_limits))
        config = InterceptorsConfig.read(settings.interceptors)
        hooks = Hooks(config.custom, in_sandbox) if config.custom else None
        approvals = Approvals(settings.approvals_dir, record, settings.approval_deadline_s)
        return cls(Authorizer(CallPolicies.load(settings), limits), Pipeline(config, hooks), approvals)

    async def close(self) -> None:
        if self.pipeline.hooks is not None:
            await self.pipeline.hooks.close()

    def offered(self, client: Downstream) -> Index:
        """What ``client`` is shown of what its profile serves."""
        return self.authorizer.offered(client)

    def may(self, client: Downstream, route: Route) -> bool:
        """Whether a call of this tool would be let through, as far as that is known before it is made."""
        try:
            self.authorizer.check(client, "tools/call", route, {})
        except CallRefused:
            return False
        return True

    def enter(
        self, client: Downstream, call: Call, server: LockedServer, route: Route, params: dict[str, Any]
    ) -> Decision:
        """May this request go on?  Raises what refuses it; ``leave`` gives back what it counted against."""
        asked = "exec" if route.server == OURS else call.method
        decision = self.authorizer.check(client, asked, route, params)
        if decision.approval and asked.startswith("tasks/"):  # the call that began the task was approved, or refused
            decision = replace(decision, approval=())
        self.look(client, call, server, route, params)
        return decision

    def look(self, client: Downstream, call: Call, server: LockedServer, route: Route, params: dict[str, Any]) -> None:
        """``enter`` for a request that the authorizer has let through: limits, then interceptors."""
        counted = self.authorizer.quota(client, route)
        if counted:
            quotas.enter(counted, client.loop.time())
            call.quotas = counted
        self.pipeline.before(call, server, route, params)

    def waits(self, client: Downstream, decision: Decision, params: dict[str, Any]) -> bool:
        """Whether ``settle`` has anything to do."""
        return bool(decision.approval) or self.hooked(client) or is_ours(params.get("requestState"))

    async def settle(
        self, client: Downstream, call: Call, route: Route, params: dict[str, Any], decision: Decision
    ) -> dict[str, Any] | None:
        """Custom interceptors and approval.  A result in place of the server's, or None: the call may go on."""
        asked = print_of(call, params)
        if self.hooked(client):
            server = client.index.servers[route.server]
            await self.pipeline.before_custom(call, server, route, params, client.principal.name)
        if decision.approval or is_ours(params.get("requestState")):
            instead = await self._approvals.obtain(client, call, route, params, decision, asked)
            if instead is None:  # a person took their time; what policies say may be another thing by now
                self.authorizer.check(client, "exec" if route.server == OURS else call.method, route, params)
            return instead
        return None

    def hooked(self, client: Downstream) -> bool:
        """Whether custom interceptors look at this client's calls: ``after_hooks``, then ``answer``."""
        return self.pipeline.hooks is not None and not client.trusted

    async def after_hooks(self, client: Downstream, call: Call, route: Route, reply: dict[str, Any]) -> dict[str, Any]:
        return await self.pipeline.after_custom(call, route, reply, client.principal.name)

    def answer(self, call: Call, server: LockedServer, route: Route, reply: dict[str, Any]) -> bytes:
        """The encoded reply as the client gets it."""
        return self.pipeline.after(call, server, route, reply)

    def leave(self, call: Call) -> None:
        if call.quotas:
            quotas.leave(call.quotas)
            call.quotas = ()
