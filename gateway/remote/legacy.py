"""HTTP with SSE (2024-11-05, basic/transports): one event stream from the server, and POSTs to the address that it names.

The stream is the session: when it ends, the connection is over, and whatever waited for an answer hears so.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import urljoin

from gateway.messages import RequestId
from gateway.remote.box import ATTEMPTS, IN_ORDER, MAX_IN_FLIGHT, Box, request_id_of
from gateway.remote.errors import (
    RemoteFailed,
    RemoteInsecure,
    RemoteRedirected,
    RemoteSessionLost,
    RemoteUnreachable,
)
from gateway.remote.headers import ACCEPT_EVENTS, JSON
from gateway.remote.net import HTTP_ERRORS, Response
from gateway.remote.spec import checked_url, origin_of
from gateway.remote.sse import Events
from harbourmaster.core.errors import HarbourError

ENDPOINT_S: Final = 15.0  # until the stream says where to send messages
ANSWER_S: Final = 60.0  # until a POST is taken; its result comes on the stream


class SseBox(Box):
    _barrier: asyncio.Task[None] | None = None

    def send(self, body: dict[str, Any], line: bytes) -> None:
        if len(self._tasks) >= MAX_IN_FLIGHT:
            raise RemoteUnreachable(
                f"{MAX_IN_FLIGHT} messages are on their way to {self.server}", remedy="wait for some to be answered"
            )
        task = self.start(self._post(body, line, self._barrier))
        if body.get("method") in IN_ORDER:
            self._barrier = task

    async def connect(self) -> None:
        """Open the stream and learn where messages go.

        Raises what ``Web.request`` does, ``RemoteFailed``, ``LoginRequired``.
        """
        self._endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.start(self._stream())
        try:
            async with asyncio.timeout(ENDPOINT_S):
                await asyncio.shield(self._endpoint)
        except TimeoutError:
            what = f"{self.server} did not say where to send messages"
            raise RemoteFailed(what, remedy="is it an SSE server?") from None

    async def _stream(self) -> None:
        try:
            for attempt in range(ATTEMPTS):
                sent = await self._credentials.headers()
                async with self._web.request("GET", self.url, [ACCEPT_EVENTS, *sent], read_s=None) as response:
                    if await self.refused(response, sent, attempt):
                        continue
                    await self._follow(response)
                break
            raise RemoteSessionLost(
                f"{self.server} closed its event stream, and with it the session",
                remedy="call again: a new one is opened",
            )
        except Exception as e:
            if self._endpoint.done():
                raise
            self._endpoint.set_exception(e)

    async def _follow(self, response: Response) -> None:
        if response.status != 200 or response.kind != "text/event-stream":
            await self.explain(response, None)
        events = Events()
        try:
            async for chunk in response.chunks():
                for event in events.feed(chunk):
                    if event.name == "endpoint" and not self._endpoint.done():
                        self._endpoint.set_result(self._checked(event.data.decode("utf-8", "replace")))
                    elif event.name == "message":
                        self.hear(event.data)
        except HTTP_ERRORS as e:
            raise RemoteSessionLost(
                f"the event stream of {self.server} broke: {e}", remedy="call again: a new one is opened"
            ) from e

    def _checked(self, said: str) -> str:
        """Messages may go to the origin that the stream came from, and nowhere else."""
        url = urljoin(self.url, said.strip())
        checked_url(url)
        if origin_of(url) != origin_of(self.url):
            raise RemoteRedirected(
                f"{self.server} wants messages sent to {url[:200]}, which is another host",
                remedy="do not trust it; tell its author",
            )
        return url

    async def _post(self, body: dict[str, Any], line: bytes, after: asyncio.Task[None] | None) -> None:
        request_id = request_id_of(body)
        if after is not None and not after.done():
            await asyncio.wait({after})
        try:
            await self._exchange(line, request_id)
        except HarbourError as e:
            if body.get("method") == "initialize" or isinstance(e, RemoteSessionLost | RemoteInsecure):
                raise
            self.fail(request_id, e)

    async def _exchange(self, line: bytes, request_id: RequestId | None) -> None:
        for attempt in range(ATTEMPTS):
            sent = await self._credentials.headers()
            async with self._web.request(
                "POST", await self._endpoint, [JSON, *sent], line, read_s=ANSWER_S
            ) as response:
                if await self.refused(response, sent, attempt):
                    continue
                if response.status == 404:
                    raise RemoteSessionLost(f"{self.server} no longer knows our session", remedy="call again")
                if not 200 <= response.status < 300:
                    answer = await self.explain(response, request_id)
                    if answer is not None:
                        self.hear(answer)
            return
