"""The requests of OAuth 2.1 (draft-ietf-oauth-v2-1) with PKCE: register, authorize, exchange, renew, revoke.

State and verifier live in one ``Question``, made for one authorization server and answered once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from gateway.remote.net import Headers, Web
from gateway.remote.oauth.discovery import Discovery, post_form, post_json
from gateway.remote.oauth.errors import (
    AuthorizationRefused,
    ClientUnknown,
    GrantOver,
    RedirectForged,
    TokenFailed,
)
from gateway.remote.oauth.grant import Client, Grant, grant_from
from gateway.remote.oauth.metadata import AuthServer, Challenge, union
from gateway.remote.spec import OAuthSpec

CLIENT_NAME: Final = "Harbourmaster"
VERIFIER_BYTES: Final = 64  # 86 characters of the 43 to 128 that RFC 7636 section 4.1 allows
OFFLINE: Final = "offline_access"  # OpenID Connect Core 1.0 section 11
_OURS: Final = ("none", "client_secret_basic", "client_secret_post")  # in order of preference


@dataclass(frozen=True)
class Question:
    """What a person is sent to the authorization server with."""

    url: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str
    client: Client
    scopes: tuple[str, ...]


def scopes_for(
    discovery: Discovery, challenge: Challenge, granted: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[str, ...] | None:
    """What to ask for: the challenge's scopes, else the resource's; with what we had before when more is needed.

    None: nothing said, so no scope parameter (MCP authorization, "Scope Selection Strategy").
    """
    asked = challenge.scope
    if asked is None and not (wanted and granted):
        asked = discovery.resource.scopes
    if challenge.wants_scope or wanted:
        asked = union(granted, asked, wanted)
    if asked is not None and OFFLINE in (discovery.server.scopes or ()):
        asked = union(asked, (OFFLINE,))
    return asked


async def client_for(
    web: Web,
    discovery: Discovery,
    spec: OAuthSpec,
    before: Client | None,
    *,
    redirect_uri: str,
    client_secret: str,
    scopes: tuple[str, ...] | None,
) -> Client:
    """Registered beforehand, else by a metadata document, else as before, else registered now.  ``ClientUnknown``."""
    server = discovery.server
    if spec.client_id:
        return Client(server.issuer, spec.client_id, client_secret, _auth(server, bool(client_secret)), redirect_uri)
    if spec.client_metadata_url and server.takes_client_metadata:
        return Client(server.issuer, spec.client_metadata_url, redirect_uri=redirect_uri)
    if before is not None and before.issuer == server.issuer and before.redirect_uri == redirect_uri:
        return before
    if not server.registration_endpoint:
        raise ClientUnknown(
            f"{server.issuer} does not let clients register themselves",
            remedy="register one there, and name its client_id under oauth in the entry",
        )
    return await _register(web, server, redirect_uri, scopes)


def _auth(server: AuthServer, has_secret: bool) -> str:
    if not has_secret:
        return "none"
    offered = [m for m in _OURS[1:] if m in server.token_auth]
    return offered[0] if offered else "client_secret_basic"


async def _register(web: Web, server: AuthServer, redirect_uri: str, scopes: tuple[str, ...] | None) -> Client:
    """RFC 7591."""
    method = next((m for m in _OURS if m in server.token_auth), "none")
    body: dict[str, Any] = {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": "native",
    }
    if scopes:
        body["scope"] = " ".join(scopes)
    status, said = await post_json(web, server.registration_endpoint, body)
    client_id, secret = said.get("client_id"), said.get("client_secret") or ""
    given = said.get("token_endpoint_auth_method") or method
    if status not in (200, 201) or not isinstance(client_id, str) or not client_id or not isinstance(secret, str):
        raise ClientUnknown(
            f"{server.issuer} did not register us (HTTP {status}): {_words(said)}",
            remedy="register a client there, and name its client_id under oauth in the entry",
        )
    if given not in _OURS or (given != "none" and not secret):
        raise ClientUnknown(
            f"{server.issuer} wants {str(given)[:60]!r} at its token endpoint, which we cannot do",
            remedy="register a client there that may use client_secret_basic",
        )
    return Client(server.issuer, client_id, secret if given != "none" else "", given, redirect_uri, registered=True)


def question_for(discovery: Discovery, client: Client, scopes: tuple[str, ...] | None) -> Question:
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(VERIFIER_BYTES)
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "state": state,
        "code_challenge": digest,
        "code_challenge_method": "S256",
        "resource": discovery.resource.identifier,  # RFC 8707: a token for this server and no other
    }
    if scopes:
        asked["scope"] = " ".join(scopes)
        if OFFLINE in scopes:
            asked["prompt"] = "consent"  # OpenID Connect Core 1.0 section 11: else it is ignored
    endpoint = discovery.server.authorization_endpoint
    url = endpoint + ("&" if urlsplit(endpoint).query else "?") + urlencode(asked)
    return Question(url, state, verifier, client.redirect_uri, client, scopes or ())


def code_from(answer: Mapping[str, str], question: Question, server: AuthServer) -> str:
    """The code in a redirect's parameters.  Raises ``RedirectForged``, ``AuthorizationRefused``."""
    if not hmac.compare_digest(answer.get("state", "").encode(), question.state.encode()):
        raise RedirectForged("the answer is not to our question (state differs)", remedy="log in again")
    issuer = answer.get("iss")
    if issuer is not None and issuer != server.issuer:  # RFC 9207 section 2.4: compared as they are
        raise RedirectForged(
            f"the answer comes from {issuer[:200]}, and {server.issuer} was asked",
            remedy="do not go on with this login",
        )
    if issuer is None and server.promises_iss:
        raise RedirectForged(
            f"{server.issuer} says that its answers name their issuer, and this one does not", remedy="log in again"
        )
    if "error" in answer:
        raise AuthorizationRefused(f"{server.issuer} says no: {_words(answer)}", remedy="log in again, and agree there")
    if not answer.get("code"):
        raise RedirectForged("the answer holds no code", remedy="log in again")
    return answer["code"]


async def exchange_code(
    web: Web, discovery: Discovery, question: Question, code: str, server_url: str, now: float
) -> Grant:
    """Raises ``TokenFailed``."""
    server = discovery.server
    blank = Grant(
        url=server_url,
        resource=discovery.resource.identifier,
        client=question.client,
        token_endpoint=server.token_endpoint,
        access_token="",
        scopes=question.scopes,
        revocation_endpoint=server.revocation_endpoint,
    )
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": question.redirect_uri,
        "code_verifier": question.verifier,
    }
    return await _token(web, blank, form, now)


async def renew(web: Web, grant: Grant, now: float) -> Grant:
    """RFC 6749 section 6.  Raises ``GrantOver`` when only a new login helps, else ``TokenFailed``."""
    if not grant.refresh_token:
        raise GrantOver("the token ended, and there is none to renew it with", remedy="log in again")
    return await _token(web, grant, {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}, now)


async def revoke(web: Web, grant: Grant) -> bool:
    """RFC 7009; whether the authorization server took it back.  Raises what dialling raises."""
    if not grant.revocation_endpoint:
        return False
    token = grant.refresh_token or grant.access_token  # with a refresh token its access tokens go (section 2.1)
    hint = "refresh_token" if grant.refresh_token else "access_token"
    form, headers = _authenticated(grant.client, {"token": token, "token_type_hint": hint})
    status, _ = await post_form(web, grant.revocation_endpoint, form, headers)
    return status == 200


async def _token(web: Web, grant: Grant, form: dict[str, str], now: float) -> Grant:
    form, headers = _authenticated(grant.client, {**form, "resource": grant.resource})
    status, said = await post_form(web, grant.token_endpoint, form, headers)
    found = grant_from(said, grant, now) if status == 200 else None
    if found is None:
        kind = (
            GrantOver
            if said.get("error") in ("invalid_grant", "invalid_client", "unauthorized_client")
            else TokenFailed
        )
        raise kind(f"{grant.client.issuer} gave no token (HTTP {status}): {_words(said)}", remedy="log in again")
    return found


def _authenticated(client: Client, form: dict[str, str]) -> tuple[dict[str, str], Headers]:
    """RFC 6749 section 2.3.1."""
    if client.auth == "client_secret_basic" and client.client_secret:
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
        return form, [(b"authorization", b"Basic " + base64.b64encode(pair.encode()))]
    form = {**form, "client_id": client.client_id}
    if client.auth == "client_secret_post" and client.client_secret:
        form["client_secret"] = client.client_secret
    return form, []


def _words(said: Mapping[str, Any]) -> str:
    """An OAuth error as text that cannot garble a terminal."""
    parts = [str(said[k]) for k in ("error", "error_description") if said.get(k)]
    return "".join(c if c.isprintable() else " " for c in ": ".join(parts))[:300] or "no reason given"
