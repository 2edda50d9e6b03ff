"""Serve on stdio, or with ``--http PORT`` on 127.0.0.1 (0: any free port; the address is printed)."""

from __future__ import annotations

import argparse
import asyncio
import socket
import warnings

import uvicorn
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server

from .app import build
from .events import Remembered

RETRY_MS = 200  # how soon a client whose stream ended may come back


async def on_stdio() -> None:
    server = build()
    options = server.create_initialization_options(NotificationOptions(True, True, True))
    async with stdio_server() as (read, write):
        await server.run(read, write, options)


async def on_http(port: int) -> None:
    app = build().streamable_http_app(event_store=Remembered(), retry_interval=RETRY_MS)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", flush=True)
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[sock])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int, metavar="PORT")
    port = parser.parse_args().http
    warnings.simplefilter("ignore")  # the newest revision calls deprecated what the one before still asks for
    asyncio.run(on_stdio() if port is None else on_http(port))


if __name__ == "__main__":
    main()
