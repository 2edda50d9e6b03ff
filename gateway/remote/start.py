"""Starts connections to remote servers where sandboxes are started: pins, leases, audit and authorization hold for both."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import eras
from gateway.lock import LockedServer
from gateway.remote.box import Box, Credentials, FixedHeaders
from gateway.remote.headers import Routing
from gateway.remote.legacy import SseBox
from gateway.remote.net import MayBePrivate, Web, only
from gateway.remote.spec import RemoteSpec, fill, parse
from gateway.remote.streamable import StreamableBox
from gateway.upstream import Exit, OnExit, OnLine, SandboxStarter
from harbourmaster.core.secrets import Delivery, declared_from
from sandbox.egress.resolver import Look, Resolver

Deliver = Callable[[LockedServer], Delivery]  # blocking
Record = Callable[[dict[str, Any]], None]
Login = Callable[[str, RemoteSpec, Web], Credentials]  # (server, where it is, how to reach it)


@dataclass(frozen=True)
class AdmittedRemote:
    """In the place of an admitted image."""

    name: str
    image: str = ""
    image_id: str = ""


class Remotes:
    """One pool of connections per server; ``close`` ends them."""

    def __init__(
        self,
        deliver: Deliver,
        login: Login,
        record: Record,
        *,
        look: Look | None = None,
        tls: ssl.SSLContext | None = None,
        may_be_private: MayBePrivate | None = None,
    ) -> None:
        self._deliver = deliver
        self._login = login
        self._record = record
        self._look = look or Resolver()
        self._tls = tls
        self._may_be_private = may_be_private
        self._webs: dict[tuple[str, frozenset[str]], Web] = {}
        self._logins: dict[tuple[str, str], Credentials] = {}

    async def start(self, server: LockedServer, on_line: OnLine, on_exit: OnExit) -> Box:
        spec = parse(server.run["remote"])
        facts = {"server": server.name, "image": "", "host": spec.host}

        def ended(end: Exit) -> None:
            on_exit(end)
            self._record({"kind": "sandbox", "event": "stop", **facts, "sandbox": box.id, "status": None})

        box = await self._box(server, spec, on_line, ended)
        self._record({"kind": "sandbox", "event": "start", **facts, "sandbox": box.id})
        if isinstance(box, SseBox):
            try:
                await box.connect()
            except BaseException:
                await box.stop(grace_s=0)
                raise
        return box

    async def _box(self, server: LockedServer, spec: RemoteSpec, on_line: OnLine, on_exit: OnExit) -> Box:
        web = self.web(server.name, spec)
        credentials = await self._credentials(server, spec, web)
        if spec.transport == "sse":
            return SseBox(server.name, spec.url, web, credentials, on_line, on_exit)
        modern = eras.is_modern(server.listing["protocolVersion"])
        routing = Routing(server.listing.get("tools") or ()) if modern else Routing()
        return StreamableBox(server.name, spec.url, web, credentials, on_line, on_exit, modern=modern, routing=routing)

    def web(self, name: str, spec: RemoteSpec) -> Web:
        key = (name, spec.private)
        if key not in self._webs:
            rule = self._may_be_private or only(spec.private)
            self._webs[key] = Web(rule, look=self._look, tls=self._tls)
        return self._webs[key]

    async def _credentials(self, server: LockedServer, spec: RemoteSpec, web: Web) -> Credentials:
        delivery = await asyncio.to_thread(self._deliver, server)
        fixed = fill(spec.headers, values_of(server, delivery))
        if any(name == b"authorization" for name, _ in fixed):
            return FixedHeaders(server.name, fixed)
        key = (server.name, spec.url)  # one keeper of tokens per server: two must not renew the same one
        if key not in self._logins:
            self._logins[key] = self._login(server.name, spec, web)
        return Both(fixed, self._logins[key])

    async def close(self) -> None:
        for login in self._logins.values():
            await login.close()
        for web in self._webs.values():
            await web.close()
        self._webs.clear()


class Both(FixedHeaders):
    """Fixed headers beside a token."""

    def __init__(self, fixed: list[tuple[bytes, bytes]], login: Credentials) -> None:
        super().__init__("", fixed)
        self._login = login

    async def headers(self) -> list[tuple[bytes, bytes]]:
        return [*self._headers, *await self._login.headers()]

    async def refused(self, head: Any, sent: list[tuple[bytes, bytes]]) -> bool:
        return await self._login.refused(head, sent)


def values_of(server: LockedServer, delivery: Delivery) -> Mapping[str, str]:
    """What ``${VARIABLE}`` stands for: settings of the entry, and its secrets, those given as files too."""
    declared = declared_from(server.run)
    files = {each.env: delivery.files[each.name] for each in declared if each.name in delivery.files}
    plain = {each.env: delivery.env[each.env] for each in declared if each.env in delivery.secret_env}
    return {**server.run.get("env", {}), **plain, **files}


def either(sandboxes: SandboxStarter, remotes: Remotes) -> SandboxStarter:
    """A starter for servers of both kinds."""

    async def start(server: LockedServer, admitted: Any, on_line: OnLine, on_exit: OnExit) -> Any:
        if server.remote:
            return await remotes.start(server, on_line, on_exit)
        return await sandboxes(server, admitted, on_line, on_exit)

    return start
