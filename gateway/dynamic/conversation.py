"""Finding, adding, removing and configuring servers for one client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.calls import Call
from gateway.downstream import Downstream
from gateway.dynamic import consent
from gateway.dynamic.additions import Additions
from gateway.dynamic.asking import ask_person
from gateway.dynamic.catalog import Aside
from gateway.dynamic.errors import (
    AddRefused,
    ArgumentInvalid,
    CatalogUnavailable,
    ConfigFixed,
    ConsentMoved,
    NotBuilt,
    NotFound,
    TooManyAdded,
)
from gateway.dynamic.find import Catalog, ToolFound, ToolSearch, fitting, from_catalog, shortened
from gateway.dynamic.overlay import Ground, Wishes, wished
from gateway.dynamic.results import said
from gateway.dynamic.tools import ADD, CONFIG, EXEC, MAX_FOUND, OURS, USUAL_FOUND
from gateway.index import Index, Route
from gateway.lock import LockedServer
from gateway.names import qualified
from gateway.profiles.schema import ServerRules
from gateway.profiles.select import matches
from gateway.profiles.values import check, schemas
from gateway.profiles.views import Views
from gateway.record import Append
from harbourmaster.core.errors import HarbourError

MAX_ADDED: Final = 50  # servers that one client may have added; each is a sandbox when it is used
MAX_VALUES_BYTES: Final = 16 << 10  # of one server's values

May = Callable[[Downstream, Route], bool]  # whether the caller may call this tool
Refit = Callable[[Downstream, Index], None]  # the client sees something else than this index
Keep = Callable[[str, str, Mapping[str, Any]], None]  # (profile, server, values) into the profile's file; blocking


class Conversations:
    """``admit``: raises when a server may not run.  ``catalog``: blocking; None where there is none."""

    def __init__(
        self,
        views: Views,
        info: dict[str, Any],
        *,
        may: May,
        admit: Callable[[LockedServer], Awaitable[Any]],
        refit: Refit,
        append: Append,
        keep: Keep | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self._views, self._info = views, info
        self._may, self._admit, self._refit, self._append = may, admit, refit, append
        self._keep, self._catalog = keep, catalog
        self._search = ToolSearch()
        self._aside = Aside()

    def close(self) -> None:
        self._aside.close()

    # -- mcp-find

    async def find(self, client: Downstream, given: Mapping[str, Any]) -> dict[str, Any]:
        query, limit = given.get("query"), given.get("limit", USUAL_FOUND)
        if not isinstance(query, str) or not query.strip():
            raise ArgumentInvalid("query must be some words", remedy="say what the tool should do")
        if type(limit) is not int or not 1 <= limit <= MAX_FOUND:
            raise ArgumentInvalid(f"limit is from 1 to {MAX_FOUND}", remedy="leave it out")
        ground, index = self._ground(client), client.index
        public = {(r.server, r.name): r for r in index.tools.values()}

        def may(found: ToolFound) -> bool:
            route = public.get((found.server, found.tool["name"]))
            if route is None:  # not in the index: hidden by the profile, or of a server that could be added
                if found.server in index.servers or not self._addable(client, ground, found.server):
                    return False
                route = Route(found.server, found.tool["name"], qualified(found.server, found.tool["name"]))
            return self._may(client, route)

        found = await self._search.find(query, self._views.lock, may, limit)
        body: dict[str, Any] = {"tools": [self._shown(each, public, index) for each in found]}
        try:
            more = await self._aside.ask(from_catalog, self._catalog, query, limit, self._views.lock)
        except HarbourError as e:
            if not found:
                raise
            body["note"] = f"the catalog could not be searched: {e.message} [{e.code}]"
            more = []
        body["servers"] = [
            {**card, "description": shortened(card["description"]), "state": "not built here"} for card in more
        ]
        return said(body)

    def _shown(self, found: ToolFound, public: Mapping[tuple[str, str], Route], index: Index) -> dict[str, Any]:
        tool, route = found.tool, public.get((found.server, found.tool["name"]))
        body = {
            "name": route.public if route else qualified(found.server, tool["name"]),
            "server": found.server,
            "state": "ready" if route else "addable",
            "description": shortened(tool.get("description") or tool.get("title")),
            "inputSchema": fitting(tool.get("inputSchema", {})),
        }
        problem = index.problems.get(found.server)
        if problem is not None:
            body |= {"state": "needs configuration", "problem": problem.message, "remedy": self._remedy(found.server)}
        return body

    def _remedy(self, server: str) -> str:
        return f"{CONFIG} with server {server} and values for: {', '.join(schemas(self._views.lock[server]))}"

    # -- mcp-add, mcp-remove

    async def add(
        self, client: Downstream, call: Call, given: dict[str, Any], params: dict[str, Any]
    ) -> dict[str, Any]:
        ground, name = self._ground(client), _name(given, "name")
        own = self._additions(client, ground)
        if name in own.wishes.added:
            return said(self._added(client, name, "it was added before"))
        server = await self._usable(client, ground, own.wishes, name)
        if name not in ground.selection.servers:  # the operator chose those of the profile
            shown = ground.dynamic.consent == "elicitation"
            asked = await ask_person(client, call, server, given.get("accept"), params, shown=shown)
            if asked is not None:
                return {"result": asked}
        await self._admit(server)
        ground = self._ground(client)  # time has passed: a person was asked, papers were read
        if consent.digest(await self._usable(client, ground, own.wishes, name)) != consent.digest(server):
            raise ConsentMoved(f"{name} changed while it was added", remedy=f"call {ADD} again")
        how = "profile" if name in ground.selection.servers else "person"
        agreed = consent.digest(server)
        self._record(client, "add", name, by=how, agreed=agreed)
        self._wish(client, own, replace(own.wishes, added={**own.wishes.added, name: agreed}))
        await self._persist(ground, own.wishes, name)
        return said(self._added(client, name, "added"))

    async def remove(self, client: Downstream, given: Mapping[str, Any]) -> dict[str, Any]:
        name, own = _name(given, "name"), self._additions(client, self._ground(client))
        if name not in own.wishes.added:
            raise NotFound(f"{name} was not added", remedy=f"added: {', '.join(own.wishes.added) or 'none'}")
        self._record(client, "remove", name)
        self._wish(client, own, _without(own.wishes, name))
        return said({"server": name, "state": "removed"})

    async def _usable(self, client: Downstream, ground: Ground, wishes: Wishes, name: str) -> LockedServer:
        """The server as this client would run it.  Raises why it cannot be added."""
        if name not in ground.lock or name == OURS:
            raise await self._absent(name)
        if name not in ground.selection.servers and not self._addable(client, ground, name):
            raise AddRefused(f"{name} may not be added in the profile {ground.profile}", remedy="ask the operator")
        if len(wishes.added) >= MAX_ADDED:
            raise TooManyAdded(f"{MAX_ADDED} servers are added already", remedy="remove one: mcp-remove")
        server, problem = wished(ground, wishes, name)
        if problem is not None:
            problem.remedy = self._remedy(name)
            raise problem
        return server

    async def _absent(self, name: str) -> HarbourError:
        try:
            found = await self._aside.ask(from_catalog, self._catalog, name, MAX_FOUND, ())
        except CatalogUnavailable as e:
            e.message = f"{name} is not locked here, and {e.message}"
            return e
        except HarbourError:
            found = []
        if any(card["name"] == name for card in found):
            return NotBuilt(
                f"{name} is in the catalog, and nothing here has verified it",
                remedy=f"a person can have it verified and locked: hm catalog add {name}; a starter server: hm up --servers {name}",
            )
        return NotFound(f"no server is called {name}", remedy="look for one: mcp-find")

    def _addable(self, client: Downstream, ground: Ground, name: str) -> bool:
        allowed = client.principal.servers
        return matches(name, ground.dynamic.servers) and (allowed is None or name in allowed) and name != OURS

    def _added(self, client: Downstream, name: str, state: str) -> dict[str, Any]:
        index = client.index
        listing = index.servers[name].listing
        names = sorted({r.public for r in index.tools.values() if r.server == name})
        body = {"server": name, "state": state, "tools": names}
        if isinstance(listing.get("instructions"), str):
            body["instructions"] = shortened(listing["instructions"])
        return body | {"note": f"they are listed now; where the list is not read again, call them with {EXEC}"}

    # -- mcp-config-set

    async def configure(self, client: Downstream, given: Mapping[str, Any]) -> dict[str, Any]:
        ground, name, values = self._ground(client), _name(given, "server"), given.get("values")
        if not isinstance(values, dict) or len(json.dumps(values)) > MAX_VALUES_BYTES:
            raise ArgumentInvalid("values must be a small object", remedy='as in {"timezone": "Europe/Oslo"}')
        if name not in ground.lock:
            raise await self._absent(name)
        if name not in ground.selection.servers and not self._addable(client, ground, name):
            raise AddRefused(f"{name} may not be used in the profile {ground.profile}", remedy="ask the operator")
        fixed = sorted(set(ground.selection.rules.get(name, ServerRules()).config) & set(values))
        if fixed:
            raise ConfigFixed(f"the operator set {', '.join(fixed)} of {name}", remedy="leave it as it is")
        check(ground.lock[name], values)
        own = self._additions(client, ground)
        wishes = replace(own.wishes, config={**own.wishes.config, name: {**own.wishes.config.get(name, {}), **values}})
        again = name in wishes.added and name not in ground.selection.servers
        if again:  # what a person agreed to had other values
            wishes = replace(wishes, added={n: agreed for n, agreed in wishes.added.items() if n != name})
        self._record(client, "configure", name, parameters=sorted(values))
        self._wish(client, own, wishes)
        if name in ground.selection.servers:
            await self._persist(ground, wishes, name)
        return said({"server": name, "set": sorted(values), **({"note": f"add it again: {ADD}"} if again else {})})

    # -- what a client has

    def _record(self, client: Downstream, event: str, server: str, **more: Any) -> None:
        """Never values.  Raises what the audit raises: what cannot be recorded does not happen."""
        who = {"principal": client.principal.name, "session": client.label, "profile": client.view.name}
        self._append({"kind": "dynamic", "event": event, "server": server, **who, **more})

    def _ground(self, client: Downstream) -> Ground:
        ground = self._views.ground(client.view)
        if ground is None:  # the profile was changed while the call came in
            raise NotFound("this profile has no dynamic tools any more", remedy="list the tools again")
        return ground

    def _additions(self, client: Downstream, ground: Ground) -> Additions:
        if client.own is None:
            client.own = Additions(ground, self._info, client.view.index)
        return client.own

    def _wish(self, client: Downstream, own: Additions, wishes: Wishes) -> None:
        before = client.index
        own.wish(wishes)
        self._refit(client, before)

    async def _persist(self, ground: Ground, wishes: Wishes, name: str) -> None:
        if ground.dynamic.persist and self._keep is not None:
            await asyncio.to_thread(self._keep, ground.profile, name, wishes.config.get(name, {}))


def _name(given: Mapping[str, Any], key: str) -> str:
    name = given.get(key)
    if not isinstance(name, str) or not name:
        raise ArgumentInvalid(f"{key} must be a server's name", remedy="look for one: mcp-find")
    return name


def _without(wishes: Wishes, name: str) -> Wishes:
    return Wishes(
        {server: agreed for server, agreed in wishes.added.items() if server != name},
        {server: values for server, values in wishes.config.items() if server != name},
    )
