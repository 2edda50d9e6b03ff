"""The clients we can configure: where each keeps its servers and how it writes one.  Data only.

Paths start with ``{home}``, ``{config}`` (XDG_CONFIG_HOME, else ~/.config) or ``{apps}`` (where desktop applications
keep settings: {config} on Linux, ~/Library/Application Support on macOS), or with a variable the client itself honours
(``override``).  Entries are templates: ``{url}``, ``{bearer}``, ``{command}``, ``{args}``, ``{argv}`` (command and
args in one list) and ``{env}`` are filled in; a key whose value is ``{env}`` goes away when there is nothing to set.
Each row names the source of its paths and shape; "writes" means the client's own ``mcp add`` was run and read back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Format = Literal["json", "toml", "yaml"]

BEARER = {"Authorization": "{bearer}"}
URL_HTTP: dict[str, Any] = {"url": "{url}", "headers": BEARER}
TYPED_HTTP: dict[str, Any] = {"type": "http", "url": "{url}", "headers": BEARER}
PLAIN_STDIO: dict[str, Any] = {"command": "{command}", "args": "{args}", "env": "{env}"}
TYPED_STDIO: dict[str, Any] = {"type": "stdio", **PLAIN_STDIO}


@dataclass(frozen=True)
class File:
    """One configuration file; ``key`` leads to the mapping (or, with ``list_key``, the list) of servers."""

    path: str
    key: tuple[str, ...]
    format: Format = "json"
    list_key: str = ""
    head: dict[str, Any] = field(default_factory=dict)  # what a new file must say beside the servers
    override: str = ""  # environment variable: the directory that holds the file
    also: str = ""  # another name of the file, taken where it exists and ``path`` does not


@dataclass(frozen=True)
class Client:
    name: str
    title: str
    source: str
    user: File
    stdio: dict[str, Any]
    http: dict[str, Any] | None = None
    project: File | None = None
    signs: tuple[str, ...] = ()  # paths or programs whose presence says that it is installed
    reload: str = "restart it"


_SERVERS = ("mcpServers",)
_VSCODE_STORE = "{apps}/Code/User/globalStorage"
_CONTINUE_HEAD = {"name": "Harbourmaster", "version": "1.0.0", "schema": "v1"}
_CONTINUE_HTTP = {"name": "{name}", "type": "streamable-http", "url": "{url}", "requestOptions": {"headers": BEARER}}
_OPENCODE_HEAD = {"$schema": "https://opencode.ai/config.json"}

CLIENTS: tuple[Client, ...] = (
    Client(
        "claude-code",
        "Claude Code",
        "writes (2.1.330); code.claude.com/docs/en/mcp, scopes",
        File("{home}/.claude.json", _SERVERS, override="CLAUDE_CONFIG_DIR"),
        TYPED_STDIO,
        TYPED_HTTP,
        File(".mcp.json", _SERVERS),
        ("claude", "{home}/.claude.json", "{home}/.claude"),
        "start a new session, or type /mcp",
    ),
    Client(
        "claude-desktop",
        "Claude Desktop",
        "modelcontextprotocol.io/docs/develop/connect-local-servers; its file takes local commands only",
        File("{apps}/Claude/claude_desktop_config.json", _SERVERS),
        PLAIN_STDIO,
        signs=("{apps}/Claude", "claude-desktop"),
        reload="quit it completely and start it again",
    ),
    Client(
        "cursor",
        "Cursor",
        "cursor.com/docs/mcp",
        File("{home}/.cursor/mcp.json", _SERVERS),
        TYPED_STDIO,
        URL_HTTP,
        File(".cursor/mcp.json", _SERVERS),
        ("cursor", "{home}/.cursor"),
        "open Settings, MCP and switch it on",
    ),
    Client(
        "vscode",
        "VS Code",
        "code.visualstudio.com/docs/agents/reference/mcp-configuration",
        File("{apps}/Code/User/mcp.json", ("servers",)),
        TYPED_STDIO,
        TYPED_HTTP,
        File(".vscode/mcp.json", ("servers",)),
        ("code", "{apps}/Code"),
        "run 'MCP: List Servers' and start it",
    ),
    Client(
        "vscode-insiders",
        "VS Code Insiders",
        "code.visualstudio.com/docs/agents/reference/mcp-configuration",
        File("{apps}/Code - Insiders/User/mcp.json", ("servers",)),
        TYPED_STDIO,
        TYPED_HTTP,
        File(".vscode/mcp.json", ("servers",)),
        ("code-insiders", "{apps}/Code - Insiders"),
        "run 'MCP: List Servers' and start it",
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "writes (0.61.0); geminicli.com/docs/tools/mcp-server",
        File("{home}/.gemini/settings.json", _SERVERS),
        PLAIN_STDIO,
        TYPED_HTTP,
        File(".gemini/settings.json", _SERVERS),
        ("gemini", "{home}/.gemini/settings.json"),
    ),
    Client(
        "antigravity",
        "Antigravity",
        "antigravity.google/docs/mcp; one file for IDE and CLI since 2.0",
        File("{home}/.gemini/config/mcp_config.json", _SERVERS),
        PLAIN_STDIO,
        {"serverUrl": "{url}", "headers": BEARER},
        signs=("agy", "antigravity", "{home}/.gemini/config"),
    ),
    Client(
        "codex",
        "Codex",
        "writes (0.169.0); developers.openai.com/codex/mcp, http_headers",
        File("{home}/.codex/config.toml", ("mcp_servers",), "toml", override="CODEX_HOME"),
        PLAIN_STDIO,
        {"url": "{url}", "http_headers": BEARER},
        File(".codex/config.toml", ("mcp_servers",), "toml"),
        ("codex", "{home}/.codex"),
    ),
    Client(
        "copilot",
        "GitHub Copilot CLI",
        "writes (mcp add); docs.github.com/copilot/how-tos/copilot-cli",
        File("{home}/.copilot/mcp-config.json", _SERVERS, override="COPILOT_HOME"),
        {"type": "local", **PLAIN_STDIO, "tools": ["*"]},
        {**TYPED_HTTP, "tools": ["*"]},
        signs=("copilot", "{home}/.copilot"),
    ),
    Client(
        "goose",
        "Goose",
        "goose-docs.ai/docs/guides/config-files, extensions of type stdio and streamable_http",
        File("{config}/goose/config.yaml", ("extensions",), "yaml"),
        {
            "enabled": True,
            "type": "stdio",
            "name": "{name}",
            "description": "{title}",
            "cmd": "{command}",
            "args": "{args}",
            "envs": "{env}",
            "timeout": 300,
        },
        {
            "enabled": True,
            "type": "streamable_http",
            "name": "{name}",
            "description": "{title}",
            "uri": "{url}",
            "headers": BEARER,
            "timeout": 300,
        },
        signs=("goose", "{config}/goose"),
    ),
    Client(
        "zed",
        "Zed",
        "zed.dev/docs/ai/mcp",
        File("{config}/zed/settings.json", ("context_servers",)),
        PLAIN_STDIO,
        URL_HTTP,
        File(".zed/settings.json", ("context_servers",)),
        ("zed", "{config}/zed"),
        "nothing: it reads the file again by itself",
    ),
    Client(
        "continue",
        "Continue",
        "docs.continue.dev/customize/deep-dives/mcp and /reference",
        File("{home}/.continue/config.yaml", _SERVERS, "yaml", "name", _CONTINUE_HEAD),
        {"name": "{name}", "type": "stdio", **PLAIN_STDIO},
        _CONTINUE_HTTP,
        File(".continue/mcpServers/harbourmaster.yaml", _SERVERS, "yaml", "name", _CONTINUE_HEAD),
        ("{home}/.continue",),
    ),
    Client(
        "cline",
        "Cline (VS Code extension)",
        "docs.cline.bot/mcp/mcp-overview, type streamableHttp",
        File(f"{_VSCODE_STORE}/saoudrizwan.claude-dev/settings/cline_mcp_settings.json", _SERVERS),
        {**TYPED_STDIO, "disabled": False},
        {"type": "streamableHttp", "url": "{url}", "headers": BEARER, "disabled": False},
        signs=(f"{_VSCODE_STORE}/saoudrizwan.claude-dev",),
        reload="nothing: it reads the file again by itself",
    ),
    Client(
        "cline-cli",
        "Cline CLI",
        "writes (3.0.65)",
        File("{home}/.cline/data/settings/cline_mcp_settings.json", _SERVERS),
        {"transport": TYPED_STDIO},
        {"transport": {"type": "streamableHttp", "url": "{url}", "headers": BEARER}},
        signs=("cline", "{home}/.cline"),
    ),
    Client(
        "roo-code",
        "Roo Code",
        "docs.roocode.com/features/mcp/using-mcp-in-roo, type streamable-http",
        File(f"{_VSCODE_STORE}/rooveterinaryinc.roo-cline/settings/mcp_settings.json", _SERVERS),
        {**TYPED_STDIO, "disabled": False},
        {"type": "streamable-http", "url": "{url}", "headers": BEARER, "disabled": False},
        File(".roo/mcp.json", _SERVERS),
        (f"{_VSCODE_STORE}/rooveterinaryinc.roo-cline",),
        "nothing: it reads the file again by itself",
    ),
    Client(
        "opencode",
        "OpenCode",
        "opencode.ai/docs/mcp-servers; the shape of 1.x, which 2.x reads too (docs/migrate-v1)",
        File(
            "{config}/opencode/opencode.json",
            ("mcp",),
            head=_OPENCODE_HEAD,
            override="OPENCODE_CONFIG_DIR",
            also="opencode.jsonc",
        ),
        {"type": "local", "command": "{argv}", "environment": "{env}", "enabled": True},
        {"type": "remote", "url": "{url}", "headers": BEARER, "oauth": False, "enabled": True},
        File("opencode.json", ("mcp",), head=_OPENCODE_HEAD, also="opencode.jsonc"),
        ("opencode", "{config}/opencode"),
    ),
    Client(
        "qwen",
        "Qwen Code",
        "writes (mcp add); qwenlm.github.io/qwen-code-docs, users/features/mcp",
        File("{home}/.qwen/settings.json", _SERVERS),
        PLAIN_STDIO,
        {"httpUrl": "{url}", "headers": BEARER},
        File(".qwen/settings.json", _SERVERS),
        ("qwen", "{home}/.qwen"),
    ),
    Client(
        "lmstudio",
        "LM Studio",
        "lmstudio.ai/docs/app/mcp: Cursor's notation",
        File("{home}/.lmstudio/mcp.json", _SERVERS),
        PLAIN_STDIO,
        URL_HTTP,
        signs=("lms", "{home}/.lmstudio"),
        reload="nothing: it reads the file again by itself",
    ),
    Client(
        "windsurf",
        "Windsurf",
        "docs.windsurf.com/windsurf/cascade/mcp, serverUrl",
        File("{home}/.codeium/windsurf/mcp_config.json", _SERVERS),
        PLAIN_STDIO,
        {"serverUrl": "{url}", "headers": BEARER},
        signs=("windsurf", "{home}/.codeium/windsurf"),
        reload="press Refresh in Cascade's MCP list",
    ),
    Client(
        "kiro",
        "Kiro",
        "kiro.dev/docs/mcp/configuration",
        File("{home}/.kiro/settings/mcp.json", _SERVERS),
        PLAIN_STDIO,
        URL_HTTP,
        File(".kiro/settings/mcp.json", _SERVERS),
        ("kiro", "kiro-cli", "{home}/.kiro"),
        "nothing: it reads the file again by itself",
    ),
)
