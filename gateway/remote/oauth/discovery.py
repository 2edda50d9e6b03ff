"""From a server's address to the authorization server that gives tokens for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from gateway.errors import BadRequest
from gateway.messages import decode, encode
from gateway.remote.net import Headers, Web
from gateway.remote.oauth.errors import DiscoveryFailed
from gateway.remote.oauth.metadata import (
    AuthServer,
    Challenge,
    Resource,
    auth_server_of,
    by_convention,
    canonical,
    origin_issuer,
    resource_of,
    resource_urls,
    server_urls,
)

MAX_BODY: Final = 1 << 20  # of a metadata document or a token; real ones are a few KiB
READ_S: Final = 15.0
_JSON: Final = (b"accept", b"application/json")


@dataclass(frozen=True)
class Discovery:
    resource: Resource
    server: AuthServer


async def discover(web: Web, server_url: str, challenge: Challenge) -> Discovery:
    """Raises ``DiscoveryFailed``, ``DiscoveryRefused``, and what dialling raises: metadata may lead to private places."""
    resource = await _resource(web, server_url, challenge)
    issuer = resource.issuer if resource is not None else origin_issuer(server_url)
    for url in server_urls(issuer) if resource is not None else server_urls(issuer)[:1]:
        body = await _document(web, url)
        if body is not None:
            if resource is None and body.get("issuer") == issuer + "/":  # a root issuer, written with its slash
                issuer = body["issuer"]
            server = auth_server_of(body, issuer)
            return Discovery(resource or Resource(canonical(server_url), issuer), server)
    if resource is None:
        server = by_convention(server_url)
        return Discovery(Resource(canonical(server_url), server.issuer), server)
    raise DiscoveryFailed(f"{issuer} publishes no metadata where they belong", remedy="tell the server's author")


async def _resource(web: Web, server_url: str, challenge: Challenge) -> Resource | None:
    for url in resource_urls(server_url, challenge):
        body = await _document(web, url)
        if body is not None:
            return resource_of(body, server_url)
    if challenge.resource_metadata:
        raise DiscoveryFailed(
            f"{server_url} says its metadata are at {challenge.resource_metadata[:200]}, where there are none",
            remedy="tell its author",
        )
    return None


async def _document(web: Web, url: str) -> dict[str, Any] | None:
    """None where there is none (4xx, or no JSON object); a redirect is not followed.  ``DiscoveryFailed`` for 5xx."""
    status, body = await exchange(web, "GET", url, [])
    if status >= 500 or status == 429:
        raise DiscoveryFailed(f"{url[:200]} answered HTTP {status}", remedy="try again")
    return body if status == 200 and body else None


async def exchange(web: Web, method: str, url: str, headers: Headers, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Status and the JSON object in the answer; without one, an empty object."""
    async with web.request(method, url, [_JSON, *headers], body, read_s=READ_S) as response:
        raw = await response.body(MAX_BODY)
        try:
            found = decode(raw)
        except BadRequest:
            found = None
        return response.status, found if isinstance(found, dict) else {}


async def post_form(web: Web, url: str, form: Mapping[str, str], headers: Headers) -> tuple[int, dict[str, Any]]:
    kind = (b"content-type", b"application/x-www-form-urlencoded")
    return await exchange(web, "POST", url, [kind, *headers], urlencode(dict(form)).encode())


async def post_json(web: Web, url: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    return await exchange(web, "POST", url, [(b"content-type", b"application/json")], encode(dict(body)))
