"""A loopback relay that adds a bearer token to every request: the suite has no way to send one.

Everything else passes byte for byte, Host and Origin included, so what the suite sees is the gateway's own edge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

HEAD_END = b"\r\n\r\n"
CHUNK = 1 << 16


@contextlib.asynccontextmanager
async def with_token(port: int, token: str) -> AsyncIterator[int]:
    """A port whose requests reach ``port`` with ``token``."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.create_task(_pipe(far_reader, writer))
        try:
            await _requests(reader, far_writer, f"Authorization: Bearer {token}\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the suite closed its connection
        finally:
            far_writer.close()
            await back

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> None:
    while True:
        head = await reader.readuntil(HEAD_END)
        first, _, rest = head.partition(b"\r\n")
        writer.write(first + b"\r\n" + line + rest)
        writer.write(await reader.readexactly(_length(rest)))
        await writer.drain()


def _length(head: bytes) -> int:
    """What the suite sends has a Content-Length or no body."""
    fields = (field.partition(b":") for field in head.split(b"\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    assert b"transfer-encoding" not in headers, "the suite sends a chunked body: teach the relay to pass it on"
    return int(headers.get(b"content-length", b"0"))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
