"""Keeps one server's token while the gateway runs: gives it to each request, renews it, notices a new login.

Only one renewal at a time, across processes too: a refresh token is often good for one use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from gateway.remote.errors import LoginRequired, ScopeRequired
from gateway.remote.net import Head, Headers, Web
from gateway.remote.oauth.errors import TokenFailed
from gateway.remote.oauth.flow import renew
from gateway.remote.oauth.grant import Grant, Vault
from gateway.remote.oauth.metadata import challenge_of
from harbourmaster.core.errors import UnavailableError
from harbourmaster.core.files import file_lock

log = logging.getLogger("gateway.remote")

AUTHORIZATION: Final = b"authorization"
PAUSE_S: Final = 30.0  # after a renewal that failed, so that calls do not wait for a server that is down, one by one
_NEVER = object()


class Keeper:
    """``gateway.remote.box.Credentials`` from the grant in ``vault``, for the server at ``url`` and no other.

    ``stamp``: changes when the vault may have (someone logged in or out); cheap, asked for every request.
    """

    def __init__(
        self,
        server: str,
        url: str,
        web: Web,
        vault: Vault,
        guard: Path,
        *,
        clock: Callable[[], float] = time.time,
        stamp: Callable[[], object] = lambda: None,
    ) -> None:
        self._server = server
        self._url = url
        self._web = web
        self._vault = vault
        self._guard = guard
        self._clock = clock
        self._grant: Grant | None = None
        self._stamp = stamp
        self._seen: object = _NEVER
        self._not_before = 0.0  # no renewal on our own account until then
        self._turn = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()

    async def headers(self) -> Headers:
        if self._seen is _NEVER or self._stamp() != self._seen:
            await self._load()
        grant, now = self._grant, self._clock()
        if grant is not None and grant.refresh_token and not grant.fresh(now) and now >= self._not_before:
            try:
                await self._renew(grant)
            except UnavailableError as e:  # the old token may do a little longer; if not, its server says so
                self._not_before = now + PAUSE_S
                log.warning("the token for %s could not be renewed: %s [%s]", self._server, e.message, e.code)
        if self._grant is None:
            return []
        return [(AUTHORIZATION, b"Bearer " + self._grant.access_token.encode())]

    async def refused(self, head: Head, sent: Headers) -> bool:
        header = head.header(b"www-authenticate")
        challenge = challenge_of(header)
        if head.status == 403:
            if not challenge.wants_scope:
                return False
            if await self._replaced(dict(sent).get(AUTHORIZATION, b"")):
                return True
            asked = " ".join(challenge.scope or ())
            raise ScopeRequired(
                f"{self._server} wants more than was granted for this: {asked or 'no scope is named'}",
                remedy=f"log in again and grant it: hm server login {self._server}"
                + "".join(f" --scope {scope}" for scope in challenge.scope or ()),
                challenge=header,
            )
        if await self._newer(dict(sent).get(AUTHORIZATION, b"")):
            return True
        raise self._login_required(header)

    async def _newer(self, refused: bytes) -> bool:
        """Whether there is another token than the one refused, by a login meanwhile or by renewal."""
        if await self._replaced(refused):
            return True
        grant = self._grant
        if grant is None or not grant.refresh_token:
            return False
        try:
            await self._renew(grant)
        except TokenFailed:
            return False
        return True

    async def _replaced(self, refused: bytes) -> bool:
        """Whether someone logged in meanwhile."""
        await self._load()
        return self._grant is not None and b"Bearer " + self._grant.access_token.encode() != refused

    async def close(self) -> None:
        """Wait for a renewal that has begun."""
        if self._work:
            await asyncio.wait(self._work)

    async def _renew(self, seen: Grant) -> None:
        """Have a newer grant than ``seen``.  Raises ``TokenFailed``.

        It goes on when the call that wanted it is given up: its refresh token is spent with the request, and the next one is
        in the answer.
        """
        work = asyncio.get_running_loop().create_task(self._renewal(seen))
        self._work.add(work)
        work.add_done_callback(self._renewed)
        await asyncio.shield(work)

    def _renewed(self, work: asyncio.Task[None]) -> None:
        """Retrieved, so that a failure that nobody waits for any more is not an unhandled error."""
        self._work.discard(work)
        if not work.cancelled():
            work.exception()

    async def _renewal(self, seen: Grant) -> None:
        async with self._turn, self._alone():
            await self._load()
            if self._grant is None or self._grant != seen:
                return
            try:
                self._grant = await renew(self._web, seen, self._clock())
            except TokenFailed as e:
                if e.gone:
                    self._grant = None
                    await asyncio.to_thread(self._vault.drop)
                raise
            await asyncio.to_thread(self._vault.save, self._grant)

    async def _load(self) -> None:
        """A grant for another address is no grant: it would show one server the token of another."""
        stamp = self._stamp()
        grant = await asyncio.to_thread(self._vault.load)
        self._grant, self._seen = grant if grant is not None and grant.url == self._url else None, stamp

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        held = file_lock(self._guard)
        await asyncio.to_thread(held.__enter__)
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    def _login_required(self, header: str) -> LoginRequired:
        return LoginRequired(
            f"{self._server} wants to know on whose behalf the gateway calls (HTTP 401)",
            remedy=f"log in once: hm server login {self._server}",
            challenge=header,
        )
