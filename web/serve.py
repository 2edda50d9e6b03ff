"""Running the console: uvicorn on a socket of ours, a clean end."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from web.errors import AddressInUse

BACKLOG = 128
SHUTDOWN_S = 2  # how long answers in flight may take; streams of events never end by themselves


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any.  Raises ``AddressInUse``."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        raise AddressInUse(
            f"cannot listen on {host}:{port}: {e.strerror}", remedy="stop what listens there, or choose another --port"
        ) from e
    return sock


def make_server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)
