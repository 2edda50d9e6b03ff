"""The SDK's connections to an engine's Unix socket, but for one thing: a connection that was refused is closed.

The SDK leaves its socket to the garbage collector.  While an engine is away every call of a server is refused several
times, and a process that serves collects rarely: it would run out of file descriptors.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        timeout_s: Any = self.timeout  # which the SDK hands on as it is
        return _Connection(self.base_url, self.socket_path, timeout_s)


class UnixAdapter(UnixHTTPAdapter):
    def get_connection(self, url: bytes | str, proxies: Any = None) -> _Pool:
        with self.pools.lock:
            pool: _Pool | None = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _Pool(str(url), self.socket_path, self.timeout, maxsize=self.max_pool_size)
        return pool


def closing_refused(api: Any, url: str, *, timeout_s: int, connections: int) -> None:
    """Have ``api``, an ``APIClient`` that talks to the engine at ``url`` (``unix://...``), talk over such connections from now on."""
    adapter = UnixAdapter(url.replace("unix://", "http+unix://", 1), timeout_s, max_pool_size=connections)
    api.get_adapter(api.base_url).close()
    api._custom_adapter = adapter  # what the SDK itself looks for a connection's socket in
    api.mount("http+docker://", adapter)
