"""How each client is connected to the gateway: a snippet for its file, and a link that installs it where there is one."""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gateway.clients.connector import Change, choose_transport, connect, current, snippet
from gateway.clients.entry import ENTRY_NAME, Endpoint, entry, transport_of
from gateway.clients.places import Places, client_named, is_installed
from gateway.clients.table import CLIENTS, Client
from gateway.tokens import CLIENTS as FOR_CLIENTS
from gateway.tokens import TokenStore
from harbourmaster.core import program
from harbourmaster.core.errors import ConfigError
from harbourmaster.core.files import file_lock
from harbourmaster.core.running import gateway_url
from harbourmaster.core.settings import DEFAULT_HOME, Settings

HIDDEN = "<token>"  # what those see who may not act
FIRST = ("claude-code", "claude-desktop", "cursor", "vscode")


@dataclass(frozen=True)
class Connection:
    client: Client
    snippet: str
    file: str
    link: str
    """``cursor:`` or ``vscode:``; empty where the client has none, or for those who may not see the token."""
    installed: bool
    connected: bool


def places() -> Places:
    """Where this person's clients keep their files: the process's own environment, as for `hm client`."""
    return Places(home=Path.home(), cwd=Path.cwd(), environ=dict(os.environ), mac=sys.platform == "darwin")


def endpoint(settings: Settings, where: Places) -> Endpoint:
    usual = settings.home == (where.home / DEFAULT_HOME.name).absolute()
    return Endpoint(
        url=gateway_url(settings),
        command=str(program.path()),
        env={} if usual else {"HM_HOME": str(settings.home)},
    )


def connections(settings: Settings, where: Places, *, with_token: bool, most: int = len(CLIENTS)) -> list[Connection]:
    """The clients people have first, the rest by the table; writing each snippet takes milliseconds, hence ``most``."""
    point = endpoint(settings, where)
    token = TokenStore(settings.tokens_file).kept(FOR_CLIENTS) if with_token else HIDDEN
    order = {name: n for n, name in enumerate(FIRST)}
    clients = sorted(CLIENTS, key=lambda c: (not is_installed(c, where), order.get(c.name, len(order))))
    return [_connection(client, where, point, token, with_token=with_token) for client in clients[:most]]


def _connection(client: Client, where: Places, point: Endpoint, token: str, *, with_token: bool) -> Connection:
    transport = choose_transport(client, "user", None)
    try:
        connected = transport_of(client, current(client, "user", where)) is not None
    except ConfigError:
        connected = False  # a file that we cannot read; connecting says what is wrong with it
    return Connection(
        client,
        snippet(client, "user", transport, point, token),
        client.user.path.format(home="~", config="~/.config", apps="~/.config"),
        install_link(client, point, token) if with_token else "",
        is_installed(client, where),
        connected,
    )


def install_link(client: Client, point: Endpoint, token: str) -> str:
    """Sources: cursor.com/docs/context/mcp/install-links; code.visualstudio.com/api/extension-guides/ai/mcp, install URL."""
    body = entry(client, "http", point, token) if client.http else {}
    if client.name == "cursor":
        config = base64.b64encode(json.dumps(body).encode()).decode()
        return f"cursor://anysphere.cursor-deeplink/mcp/install?name={ENTRY_NAME}&config={quote(config, safe='')}"
    scheme = {"vscode": "vscode", "vscode-insiders": "vscode-insiders"}.get(client.name)
    return f"{scheme}:mcp/install?{quote(json.dumps({'name': ENTRY_NAME, **body}), safe='')}" if scheme else ""


def connect_client(settings: Settings, where: Places, name: str) -> tuple[Client, Change]:
    """As `hm client connect NAME`.  Raises ``ClientUnknown``, ``ClientFileMalformed``, ``ClientEditUnsafe``."""
    client = client_named(name)
    transport = choose_transport(client, "user", None)
    token = TokenStore(settings.tokens_file).kept(FOR_CLIENTS) if transport == "http" else ""
    with file_lock(settings.run_dir / "clients.guard"):
        return client, connect(client, "user", where, transport, endpoint(settings, where), token)
