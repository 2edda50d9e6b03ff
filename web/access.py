"""Logins of one home: its console tokens, its signing key, and which links were used.  Thread safe."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from gateway.tokens import DEFAULT, TokenStore
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import SECRET_MODE, file_lock, make_private_dir, write_atomic
from harbourmaster.core.settings import Settings
from web.errors import FormForged, LoginNeeded, LoginRefused
from web.identity import LINK_S, ROLES, SESSION_S, Who, form_token, is_form_token, role_of, sign, unsign

KEY_BYTES = 32
MAX_ENDED = 10_000  # sessions that were ended by hand and are not over yet


def console_tokens(settings: Settings) -> TokenStore:
    return TokenStore(settings.secrets_dir / "console-tokens.json")


def signing_key(settings: Settings) -> bytes:
    """The key of this home's console; made on first use, 0600."""
    path = settings.secrets_dir / "console.key"
    make_private_dir(path.parent)
    with file_lock(path.with_suffix(".guard")):
        if path.exists():
            return path.read_bytes()
        key = secrets.token_bytes(KEY_BYTES)
        write_atomic(path, key, mode=SECRET_MODE)
        return key


def token_name(role: str, name: str) -> str:
    """The name under which a token of ``role`` is kept."""
    if role not in ROLES:
        raise UsageError(f"no role {role!r}", remedy=f"one of: {', '.join(ROLES)}")
    return f"{role}.{name}"


def make_link_code(settings: Settings, now: float | None = None) -> str:
    """A code that logs the owner in once, within ``LINK_S`` seconds."""
    console_tokens(settings).default()
    now = time.time() if now is None else now
    payload = {"id": secrets.token_urlsafe(16), "made": now, "until": now + LINK_S}
    return sign(signing_key(settings), "link", payload)


class Access:
    """``clock``: seconds since the epoch."""

    def __init__(self, tokens: TokenStore, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._key, self._clock = tokens, key, clock
        self._born = clock()
        self._ended: dict[str, float] = {}
        """Used links and ended sessions, until when they would have counted."""
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Access:
        return cls(console_tokens(settings), signing_key(settings))

    # -- coming in

    def bearer(self, token: str) -> Who:
        """Whose token this is.  Raises ``LoginRefused``."""
        self._tokens.refresh()
        found = self._tokens.principal(token.strip().encode("utf-8", "replace"))
        if found is None or (found.expires is not None and found.expires <= self._clock()):
            raise LoginRefused("that token is not known here", remedy="print yours with: hm console token")
        return Who(found.name, role_of(found.name))

    def link(self, code: str) -> Who:
        """Let the owner in by a one-time link.  Raises ``LoginRefused``."""
        payload = unsign(self._key, "link", code, self._clock())
        again = LoginRefused("that link was used already", remedy="make another: hm console link")
        if payload.get("made", 0) < self._born - 60:  # of an earlier run, whose memory of used links is gone
            raise again
        with self._lock:
            if payload["id"] in self._ended:
                raise again
            self._remember(payload["id"], payload["until"])
        return Who(DEFAULT, role_of(DEFAULT))

    def session_cookie(self, who: Who) -> str:
        until = self._clock() + SESSION_S
        mark = self._mark(who.token)
        payload = {"token": who.token, "mark": mark, "session": secrets.token_urlsafe(16), "until": until}
        return sign(self._key, "session", payload)

    # -- being in

    def session(self, cookie: str) -> Who:
        """Raises ``LoginNeeded`` when the session is over, or its token was revoked."""
        needed = LoginNeeded("log in to see this", remedy="run: hm console link")
        try:
            payload = unsign(self._key, "session", cookie, self._clock())
        except LoginRefused as e:
            raise needed from e
        name, session = str(payload.get("token")), str(payload.get("session"))
        if session in self._ended or not payload.get("mark") or payload["mark"] != self._mark(name):
            raise needed
        return Who(name, role_of(name), session)

    def end(self, who: Who) -> None:
        with self._lock:
            self._remember(who.session, self._clock() + SESSION_S)

    def form_token(self, who: Who) -> str:
        return form_token(self._key, who.session)

    def check_form(self, who: Who, given: str) -> None:
        """Raises ``FormForged``.  Bearer tokens are not sent by browsers on their own, so they need none."""
        if who.session and not is_form_token(self._key, who.session, given):
            raise FormForged("this form was not sent from a page of this session", remedy="load the page again")

    def _mark(self, name: str) -> str:
        """Of the token itself: a session ends when its token is revoked, or replaced under the same name."""
        self._tokens.refresh()
        return next((t.sha256[:16] for t in self._tokens.list() if t.name == name), "")

    def _remember(self, key: str, until: float) -> None:
        now = self._clock()
        if len(self._ended) >= MAX_ENDED:
            self._ended = {k: u for k, u in self._ended.items() if u > now}
        self._ended[key] = until
