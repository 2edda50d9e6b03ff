"""An authorization server's public face on loopback: metadata and keys, which a test may change while it is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "http://127.0.0.1:8811/mcp"


@dataclass
class Issuer:
    """``keys``: private ones by kid.  ``published``: those that the JWKS shows; ``asked``: how often it was asked for."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    asked: int = 0
    down: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, kid: str, kind: str = "ec") -> None:
        makers = {
            "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate,
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
        }
        self.keys[kid] = makers[kind]()
        self.published.append(kid)

    def token(self, kid: str = "one", algorithm: str = "ES256", typ: str | None = "at+jwt", **changes: Any) -> str:
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "client_id": "editor",
            "scope": "mcp:tools",
            "exp": time.time() + 600,
        }
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        headers = {"kid": kid, **({"typ": typ} if typ else {})}
        return jwt.encode(claims, self.keys[kid], algorithm, headers=headers)

    def _body(self, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/oauth-authorization-server":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **self.metadata}
        if path == "/jwks":
            self.asked += 1
            return {"keys": [{**_public(self.keys[kid]), "kid": kid, "use": "sig"} for kid in self.published]}
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = self._body(head.split(b" ")[1].decode())
        status, raw = (503, b"") if self.down else (404, b"") if body is None else (200, json.dumps(body).encode())
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(raw)) + raw)
        await writer.drain()
        writer.close()


def _public(key: Any) -> dict[str, Any]:
    public = key.public_key()
    for kind, algorithm in ((rsa.RSAPublicKey, RSAAlgorithm), (ec.EllipticCurvePublicKey, ECAlgorithm)):
        if isinstance(public, kind):
            return dict(algorithm.to_jwk(public, as_dict=True))
    return dict(OKPAlgorithm.to_jwk(public, as_dict=True))


@contextlib.asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.add("one")
    async with await asyncio.start_server(issuer.serve, "127.0.0.1", 0) as server:
        issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield issuer
