"""Logins to remote servers that go on: where a person has to go, and what became of it.  Thread safe.

The answer of the authorization server comes back to the console itself.  That request is another site's doing, so it has
no session: what makes it count is the ``state`` of a login that was begun here (RFC 6749 section 10.12), once.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from gateway.remote.oauth.errors import NobodyAnswered, RedirectForged
from gateway.remote.oauth.redirect import Answer, parameters
from harbourmaster.core.errors import HarbourError
from web.errors import Fault, TooManyLogins

log = logging.getLogger("web.logins")

PATH: Final = "/remote/callback"
WAIT_S: Final = 600.0  # a person looks for a password, a telephone, a colleague
BEGIN_S: Final = 15.0  # until we know where to send them: some requests to the server and its authorization server
END_S: Final = 20.0  # until the code is a token
MOST: Final = 16  # at one time

Work = Callable[["Login"], None]


@dataclass
class Login:
    """``state``: ``asking`` the server where to go, ``waiting`` for the person, ``working``, ``done`` or ``failed``."""

    server: str
    uri: str
    state: Literal["asking", "waiting", "working", "done", "failed"] = "asking"
    url: str = ""
    error: HarbourError | None = None
    ends_at: float = 0.0
    moved: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _secret: str = field(default="", repr=False)
    _take: Callable[[Answer], None] | None = field(default=None, repr=False)

    @property
    def active(self) -> bool:
        return self.state in ("asking", "waiting", "working")

    @property
    def host(self) -> str:
        """Where the person is sent."""
        return urlsplit(self.url).netloc

    def until(self, *states: str, seconds: float) -> None:
        """Wait until it is in one of ``states``, for so long at most."""
        with self.moved:
            self.moved.wait_for(lambda: self.state in states, seconds)

    # -- as gateway.remote.oauth.redirect.Redirect

    async def answer(self, url: str, state: str) -> Answer:
        loop = asyncio.get_running_loop()
        came: asyncio.Future[Answer] = loop.create_future()
        self.url, self._secret = url, state

        def take(answer: Answer) -> None:
            loop.call_soon_threadsafe(_give, came, answer)

        self._take = take
        self._move("waiting")
        try:
            async with asyncio.timeout(WAIT_S):
                found = await came
        except TimeoutError:
            raise NobodyAnswered(f"nobody came back from the login within {WAIT_S:g} s", remedy="try again") from None
        finally:
            self._take = None
        self._move("working")
        return found

    def is_for(self, state: str) -> bool:
        return self.state == "waiting" and bool(state) and hmac.compare_digest(self._secret.encode(), state.encode())

    def take(self, answer: Answer) -> None:
        if self._take is not None:
            self._take(answer)

    def _move(self, state: Literal["waiting", "working", "done", "failed"]) -> None:
        with self.moved:
            self.state = state
            self.moved.notify_all()

    def run(self, work: Work) -> None:
        try:
            work(self)
        except HarbourError as e:
            self.error = e
            self._move("failed")
        except Exception as e:
            log.error("a fault while logging in to %s", self.server, exc_info=e)
            self.error = Fault(f"a fault of the console: {type(e).__name__}", remedy="see its log")
            self._move("failed")
        else:
            self._move("done")
        finally:
            self.ends_at = time.monotonic()


def _give(came: asyncio.Future[Answer], answer: Answer) -> None:
    if not came.done():
        came.set_result(answer)


class Logins:
    """One login for each server at a time."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}
        self._lock = threading.Lock()

    def of(self, server: str) -> Login | None:
        return self._logins.get(server)

    def start(self, server: str, uri: str, work: Work) -> Login:
        """The login of ``server`` that goes on, else a new one.  Returns once it knows where the person has to go, or
        has ended, or after ``BEGIN_S``.  Raises ``TooManyLogins``."""
        with self._lock:
            login = self._logins.get(server)
            if login is None or not login.active:
                if sum(each.active for each in self._logins.values()) >= MOST:
                    raise TooManyLogins(f"{MOST} logins wait for their people", remedy="finish or await one of them")
                login = self._logins[server] = Login(server, uri)
                threading.Thread(target=login.run, args=(work,), name=f"login-{server}", daemon=True).start()
        login.until("waiting", "done", "failed", seconds=BEGIN_S)
        return login

    def came_back(self, query: str) -> Login:
        """An authorization server's answer; the login that it belongs to, ended where that takes no long.

        Raises ``RedirectForged`` for what answers no question of ours.
        """
        try:
            answer = parameters(query)
        except ValueError as e:
            raise RedirectForged("that is no answer", remedy="log in again") from e
        login = next((each for each in self._logins.values() if each.is_for(answer.get("state", ""))), None)
        if login is None:
            raise RedirectForged("that is not the answer to a question of ours", remedy="log in again")
        login.take(answer)
        login.until("done", "failed", seconds=END_S)
        return login
