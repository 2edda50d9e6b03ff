"""One login, from the server's challenge to the kept grant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from gateway.remote.net import Web
from gateway.remote.oauth.discovery import discover
from gateway.remote.oauth.flow import client_for, code_from, exchange_code, question_for, scopes_for
from gateway.remote.oauth.grant import Grant, Vault
from gateway.remote.oauth.metadata import challenge_of
from gateway.remote.oauth.redirect import Redirect
from gateway.remote.spec import OAuthSpec, RemoteSpec


async def log_in(
    spec: RemoteSpec,
    web: Web,
    vault: Vault,
    redirect: Redirect,
    *,
    challenge: str = "",
    scopes: tuple[str, ...] = (),
    clock: Callable[[], float] = time.time,
) -> Grant:
    """``challenge``: the WWW-Authenticate header of the refusal.  ``scopes``: to ask for beside what it names.

    Raises the errors of ``oauth.errors`` and of dialling; then what was kept before is still kept.
    """
    oauth, asked = spec.oauth or OAuthSpec(), challenge_of(challenge)
    before = await asyncio.to_thread(vault.load)
    before = before if before is not None and before.url == spec.url else None
    found = await discover(web, spec.url, asked)
    same = before is not None and before.client.issuer == found.server.issuer
    wanted = scopes_for(found, asked, before.scopes if before and same else (), (*oauth.scopes, *scopes))
    client = await client_for(
        web,
        found,
        oauth,
        before.client if before is not None else None,
        redirect_uri=redirect.uri,
        client_secret=await asyncio.to_thread(vault.client_secret),
        scopes=wanted,
    )
    question = question_for(found, client, wanted)
    code = code_from(await redirect.answer(question.url, question.state), question, found.server)
    grant = await exchange_code(web, found, question, code, spec.url, clock())
    await asyncio.to_thread(vault.save, grant)
    return grant


def usual_port(grant: Grant | None) -> int:
    """Where the last login listened: the same address again needs no new registration."""
    if grant is None or not grant.client.registered:
        return 0
    return urlsplit(grant.client.redirect_uri).port or 0
