"""A real authorization server (npm ``oidc-provider``) on loopback, a person who agrees to it, and a server that wants its tokens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from tests.fixtures.npm import installed, node_in
from tests.gateway.elsewhere import Reply, Request, Script, greeting, result

HERE = Path(__file__).parent / "oidc"


@contextlib.asynccontextmanager
async def provider(folder: Path, *resources: str, seconds: int = 3600) -> AsyncIterator[str]:
    """Its issuer.  ``seconds``: how long an access token lasts."""
    modules = await asyncio.to_thread(_placed, folder)
    process = await asyncio.create_subprocess_exec(
        str(node_in(modules)),
        str(folder / "provider.mjs"),
        str(seconds),
        *resources,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"NODE_ENV": "test"},
    )
    assert process.stdout is not None
    try:
        issuer = (await process.stdout.readline()).decode().strip()
        assert issuer, "the provider did not start"
        yield issuer
    finally:
        process.terminate()
        await process.wait()


def _placed(folder: Path) -> Path:
    """The program beside its packages, as Node looks for them."""
    modules = installed("oidc", HERE)
    folder.mkdir()
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(HERE / "provider.mjs", folder)
    return modules


async def agree(url: str) -> str:
    """Log in and agree, page by page, as a person would; the address that the browser ends at."""
    async with httpx2.AsyncClient(timeout=20) as browser:
        response = await browser.get(url)
        for _ in range(12):
            if response.status_code in (302, 303):
                url = urljoin(url, response.headers["location"])
                if "/callback" in url:
                    return url
                response = await browser.get(url)
                continue
            form = re.search(r'name="prompt" value="(\w+)"', response.text)
            action = re.search(r'action="([^"]+)"', response.text)
            assert form, response.text
            assert action, response.text
            data = {"prompt": form[1]} | ({"login": "ada", "password": "x"} if form[1] == "login" else {})
            url = urljoin(url, action[1])
            response = await browser.post(url, data=data)
    raise AssertionError("the login did not come to an end")


class Person:
    """A browser beside the login: what ``show`` is given is opened, agreed to, and ends at the listener."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self, url: str) -> None:
        self.visits.append(url)
        task = asyncio.get_running_loop().create_task(self._go(url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, url: str) -> None:
        end = await agree(url)
        async with httpx2.AsyncClient(timeout=20) as browser:
            assert (await browser.get(end)).status_code == 200


@dataclass
class Guarded:
    """A scripted server that wants tokens of ``issuer`` with its own address as audience; ``tokens``: what it was shown."""

    issuer: str = ""
    url: str = ""
    scope: str = "read"
    tokens: list[str] = field(default_factory=list)
    refuse: bool = False  # every token from now on

    @property
    def script(self) -> Script:
        greet = greeting(self._call)

        async def script(request: Request, reply: Reply) -> None:
            if request.path.startswith("/.well-known/oauth-protected-resource"):
                about = {"resource": self.url, "authorization_servers": [self.issuer], "scopes_supported": ["read"]}
                await reply.send(200, about)
                return
            claims = self._claims(request)
            where = self.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
            if claims is None:
                await reply.send(401, WWW_Authenticate=f'Bearer resource_metadata="{where}", scope="read"')
            elif request.rpc == "tools/call" and self.scope not in claims["scope"].split():
                challenge = f'Bearer error="insufficient_scope", scope="{self.scope}", resource_metadata="{where}"'
                await reply.send(403, WWW_Authenticate=challenge)
            else:
                await greet(request, reply)

        return script

    async def _call(self, request: Request, reply: Reply) -> None:
        await reply.send(200, result(request, content=[{"type": "text", "text": "let in"}]))

    def _claims(self, request: Request) -> dict[str, Any] | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        self.tokens.append(token)
        part = token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        good = claims["aud"] == self.url and claims["iss"] == self.issuer and claims["exp"] > time.time()
        return claims if good and not self.refuse else None
