"""The command line's client against a server of the MCP SDK, over HTTP as a running gateway would be."""

import json
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import jsonrpc

from gateway import errors
from gateway.cli_call import _running
from gateway.cli_connection import running_gateway
from gateway.cli_errors import GatewayLost, GatewayRefused, NotAGateway, TokenRefused, refused
from gateway.cli_lookup import find
from gateway.lock import LockedServer, pin_of, read_lock, write_lock
from gateway.tokens import TokenStore
from harbourmaster.cli import main
from harbourmaster.core.running import recorded
from harbourmaster.core.settings import Settings

DIGEST = "sha256:" + "0" * 64
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "x-mcp-header": "B"}},
    "required": ["a", "b"],
}
TOOLS = [
    {"name": "add", "description": "Add two numbers", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": True}},
    {"name": "picture", "inputSchema": {"type": "object"}},
    {"name": "fails", "inputSchema": {"type": "object"}},
    {"name": "asks", "inputSchema": {"type": "object"}},
    {"name": "gone", "inputSchema": {"type": "object"}},
]


def sums() -> MCPServer:
    server = MCPServer("sums")

    @server.tool(name="sums__add")
    async def add(a: int, b: int, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "adding")
        return f"{a + b} \x1b[31m"

    @server.tool(name="sums__picture")
    def picture() -> Image:
        return Image(data=b"\x89PNG", format="png")

    @server.tool(name="sums__fails")
    def fails() -> str:
        raise ToolError("the well is dry")

    return server


@pytest.fixture
def listening(request):
    """Where an ASGI app listens; connections wait in the backlog until it is up."""
    app = getattr(request, "param", None) or sums().streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        yield sock.getsockname()[1]
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def home(tmp_path, monkeypatch):
    listing = {"protocolVersion": "2025-11-25", "tools": TOOLS}
    locked = LockedServer(
        "sums", "built", "1.0", DIGEST, DIGEST, "key:abc", DIGEST, DIGEST, pin_of(listing), True, listing
    )
    write_lock(tmp_path / "harbour.lock", {"sums": locked})
    monkeypatch.setenv("HM_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def hm(home, capsys, monkeypatch):
    """Run the command line; its exit status and what it printed."""

    def run(*argv: str) -> SimpleNamespace:
        with pytest.raises(SystemExit) as e:
            main(list(argv))
        out, err = capsys.readouterr()
        return SimpleNamespace(status=e.value.code or 0, out=out, err=err)

    return run


@pytest.fixture
def up(listening, monkeypatch):
    monkeypatch.setenv("HM_GATEWAY_PORT", str(listening))


@pytest.mark.usefixtures("up")
def test_a_call_prints_the_text_and_nothing_else(hm):
    said = hm("call", "sums.add", "a=2", "b=3")
    assert (said.status, said.out, said.err) == (0, "5 \x1b[31m\n", "")


def test_the_gateway_of_this_home_is_found_wherever_it_listens(hm, home, listening):
    with recorded(home / "run", "127.0.0.1", listening):
        assert hm("call", "sums.add", "a=2", "b=3").out.startswith("5")


def test_of_two_gateways_the_setting_says_which(hm, home, listening, monkeypatch):
    with recorded(home / "run", "127.0.0.1", listening):
        (first,) = (home / "run" / "gateways").iterdir()
        second = first.with_name("second.json")
        second.write_text(first.read_text().replace(str(listening), "1"))
        said = hm("call", "sums.add", "a=2", "b=3")
        assert "error [gateway.several]" in said.err
        assert "HM_GATEWAY_PORT" in said.err
        monkeypatch.setenv("HM_GATEWAY_PORT", str(listening))
        assert hm("call", "sums.add", "a=2", "b=3").out.startswith("5")


def test_a_client_is_connected_to_where_the_gateway_runs_and_told_when_that_is_not_the_usual_place(
    hm, home, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    with recorded(home / "run", "127.0.0.1", 4711):
        said = hm("client", "connect", "cursor")
    assert "http://127.0.0.1:4711/mcp" in (tmp_path / ".cursor" / "mcp.json").read_text()
    assert "gateway_port" in said.err


@pytest.mark.usefixtures("up")
def test_the_bare_name_and_tools_call_do_the_same(hm):
    assert hm("call", "add", "a=1", "b=1").out == hm("tools", "call", "sums.add", "a:=1", "b=1").out


@pytest.mark.usefixtures("up")
def test_json_is_the_result_as_it_came(hm):
    result = json.loads(hm("call", "sums.add", "a=2", "b=3", "--json").out)
    assert result["content"] == [{"type": "text", "text": "5 \x1b[31m"}]


@pytest.mark.usefixtures("up")
def test_arguments_come_from_a_file_or_from_stdin(hm, tmp_path, monkeypatch):
    path = tmp_path / "args.json"
    path.write_text('{"a": 4, "b": 5}')
    assert hm("call", "sums.add", "--args-file", str(path)).out.startswith("9")
    with path.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert hm("call", "sums.add", "-", "b=1").out.startswith("5")


@pytest.mark.usefixtures("up")
def test_an_image_is_one_line(hm):
    assert hm("call", "sums.picture").out == "[image image/png, 4 bytes]\n"


@pytest.mark.usefixtures("up")
def test_a_tool_that_fails_exits_1_with_its_reason_on_stderr(hm):
    said = hm("call", "sums.fails")
    assert (said.status, said.out) == (1, "")
    assert "error [tool.failed]: sums.fails:" in said.err
    assert "the well is dry" in said.err


@pytest.mark.usefixtures("up")
def test_what_the_gateway_refuses_exits_1_with_its_reason(hm):
    said = hm("call", "sums.gone", "--json")
    assert said.status == 1
    assert "sums__gone" in json.loads(said.err or said.out)["error"]["message"]


def test_wrong_arguments_exit_2_before_anything_is_asked(hm):
    said = hm("call", "sums.add", "a=2", "c=3")
    assert said.status == 2
    assert "error [tool.arguments_invalid]: sums.add: no argument 'c'; it takes a (integer, required)" in said.err


@pytest.mark.parametrize("body", ["[1]", "{", ""])
def test_a_file_that_is_no_object_is_a_usage_error(hm, tmp_path, body):
    (tmp_path / "args.json").write_text(body)
    assert hm("call", "sums.add", "--args-file", str(tmp_path / "args.json")).status == 2


def test_an_unknown_tool_is_an_error_that_names_the_listing(hm):
    said = hm("call", "sums.nope")
    assert said.status == 1
    assert "it has: add, asks, fails, gone, picture" in said.err


async def _unauthorized(scope, receive, send):
    await _answer(scope, receive, send, 401, b'{"error": "invalid_token"}')


async def _web_page(scope, receive, send):
    await _answer(scope, receive, send, 200, b"<html>hello</html>")


async def _other_json(scope, receive, send):
    await _answer(scope, receive, send, 200, b'{"hello": "world"}')


async def _answer(scope, receive, send, status, body):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("listening", "error"),
    [(_unauthorized, TokenRefused), (_web_page, NotAGateway), (_other_json, NotAGateway)],
    indirect=["listening"],
)
def test_something_else_on_the_port_is_an_error_and_no_second_gateway_starts(listening, error, hm, monkeypatch):
    monkeypatch.setenv("HM_GATEWAY_PORT", str(listening))
    said = hm("call", "sums.picture")
    assert said.status == 1
    assert f"error [{error.code}]" in said.err


def test_whoever_listens_at_the_usual_port_is_not_shown_our_token_when_no_gateway_of_ours_runs(home, monkeypatch):
    asked = []
    monkeypatch.setattr("gateway.cli_call.running_gateway", lambda host, port, *_: asked.append((host, port)))
    monkeypatch.delenv("HM_GATEWAY_PORT", raising=False)
    tool = find(read_lock(home / "harbour.lock"), "sums.add")
    assert _running(Settings.load(), tool, 1.0, "") is None
    assert asked == []
    monkeypatch.setenv("HM_GATEWAY_PORT", "9000")
    _running(Settings.load(), tool, 1.0, "")
    assert asked == [("127.0.0.1", 9000)]


def test_nothing_on_the_port_means_no_running_gateway():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert running_gateway("127.0.0.1", port, "t", 1.0, lambda *_: None) is None


def test_a_gateway_that_breaks_off_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        gateway = running_gateway("127.0.0.1", sock.getsockname()[1], "t", 30.0, lambda *_: None)
        accepted, _ = sock.accept()
        threading.Thread(target=lambda: (accepted.recv(1 << 16), accepted.close())).start()
        with pytest.raises(GatewayLost):
            gateway.request("tools/call", {}, headers={})
        gateway.close()


def test_progress_reaches_the_person_who_waits(listening):
    heard = []
    gateway = running_gateway("127.0.0.1", listening, "t", 30.0, lambda method, params: heard.append((method, params)))
    gateway.request(
        "tools/call",
        {"name": "sums__add", "arguments": {"a": 1, "b": 2}},
        headers={"Mcp-Name": "sums__add", "Mcp-Param-B": "2"},
    )
    gateway.close()
    assert ("notifications/progress", "adding") in [(m, p.get("message")) for m, p in heard]


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (
            {"code": -32010, "message": "no", "data": {"code": "admission.denied", "remedy": "ask"}},
            "admission.denied",
            "ask",
        ),
        ({"code": -32603, "message": "no", "data": {"code": "\x1b[2J"}}, "gateway.error", ""),
        ({"code": -32603, "message": "no", "data": "text"}, "gateway.error", ""),
        ("odd", "gateway.error", ""),
    ],
)
def test_an_error_keeps_the_gateways_own_code_and_remedy(error, code, remedy):
    raised = refused(error)
    assert isinstance(raised, GatewayRefused)
    assert (raised.code, raised.remedy) == (code, remedy)


def test_tools_are_listed_counted_and_inspected_without_a_gateway(hm):
    listed = hm("tools", "ls").out
    assert "add      sums    Add two numbers" in listed
    assert json.loads(hm("tools", "ls", "--json").out)[0] == {
        "name": "add",
        "server": "sums",
        "tool": "add",
        "description": "Add two numbers",
    }
    assert json.loads(hm("tools", "count", "--json").out) == {"total": 5, "servers": {"sums": 5}}
    page = hm("tools", "inspect", "sums.add").out
    assert "a         integer  required" in page
    assert "readOnlyHint=true" in page
    assert json.loads(hm("tools", "inspect", "add", "--json").out)["inputSchema"] == SCHEMA


def test_a_disabled_server_is_not_listed_and_cannot_be_called(hm):
    assert hm("server", "disable", "sums").out == "sums is disabled\n"
    assert hm("server", "disable", "sums").out == "sums is disabled already\n"
    assert json.loads(hm("tools", "ls", "--json").out) == []
    assert "hm server enable sums" in hm("call", "sums.add", "a=1", "b=1").err
    assert hm("server", "enable", "sums").out == "sums is enabled\n"
    assert json.loads(hm("server", "ls", "--json").out)[0]["enabled"] is True


def test_one_unknown_server_changes_none(hm):
    said = hm("server", "disable", "sums", "nope")
    assert (said.status, "error [server.unknown]" in said.err) == (1, True)
    assert json.loads(hm("server", "ls", "--json").out)[0]["enabled"] is True


def test_a_starter_that_is_not_built_yet_says_how(hm):
    assert "hm up --servers time" in hm("server", "enable", "time").err


def test_the_lock_is_shown_and_an_edited_one_is_refused(hm, home):
    assert "sums    enabled" in hm("lock", "show").out
    body = json.loads(hm("lock", "show", "--json").out)
    body["servers"]["sums"]["listing"]["tools"].pop()
    (home / "harbour.lock").write_text(json.dumps(body))
    assert "error [lock.invalid]" in hm("lock", "show").err


def test_a_server_is_inspected(hm):
    assert "signed by" in hm("server", "inspect", "sums").out
    assert json.loads(hm("server", "inspect", "sums", "--json").out)["signer"] == "key:abc"


def test_the_token_is_printed_alone_and_stays_the_same(hm, home):
    token = hm("token", "show").out
    assert token == hm("token", "show").out == TokenStore(home / "secrets" / "tokens.json").default() + "\n"
    assert token.strip() not in hm("token", "ls").out
    assert "laptop is not kept" in hm("token", "show", "laptop").err


def test_tokens_are_made_and_revoked_by_name(hm):
    assert hm("token", "create", "laptop").out.startswith("hm_")
    assert "laptop" in hm("token", "ls").out
    assert hm("token", "revoke", "laptop").status == 0
    assert json.loads(hm("token", "ls", "--json").out) == []
    assert "error [token.unknown]" in hm("token", "revoke", "laptop").err


def test_a_client_is_connected_listed_and_disconnected(hm, home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    token, operator = hm("token", "show", "clients").out.strip(), hm("token", "show").out.strip()
    assert token in hm("client", "connect", "claude-code", "--print").out
    assert operator not in hm("client", "connect", "claude-code", "--print").out
    assert not (tmp_path / ".claude.json").exists()
    assert hm("client", "connect", "claude-code").out.startswith("Claude Code is connected: ")
    assert token in (tmp_path / ".claude.json").read_text()
    states = {r["name"]: r["state"] for r in json.loads(hm("client", "ls", "--json").out)}
    assert (states["claude-code"], states["cursor"]) == ("connected", "not connected")
    monkeypatch.setenv("HM_GATEWAY_PORT", "9999")
    assert "outdated" in hm("client", "ls").out
    assert json.loads(hm("client", "disconnect", "claude-code", "--json").out)["changed"] is True
    assert token not in (tmp_path / ".claude.json").read_text()


def test_listing_clients_makes_no_token(hm, home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    hm("client", "ls")
    assert not (home / "secrets").exists()


def test_a_malformed_client_file_is_listed_as_unreadable(hm, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".claude.json").write_text("{")
    rows = {r["name"]: r for r in json.loads(hm("client", "ls", "--json").out)}
    assert rows["claude-code"]["state"] == "unreadable"
    assert rows["claude-code"]["error"]["code"] == "client.file_malformed"
    said = hm("client", "connect", "claude-code")
    assert (said.status, "error [client.file_malformed]" in said.err) == (1, True)


def test_the_error_codes_that_are_restated_are_the_protocols():
    for name in ("INVALID_REQUEST", "INVALID_PARAMS", "INTERNAL_ERROR", "REQUEST_TIMEOUT"):
        assert getattr(errors, name) == getattr(jsonrpc, name)


def test_a_call_loads_neither_the_sdk_nor_a_second_http_client():
    code = "import sys, gateway.cli_call; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mcp", "mcp_types", "httpx2", "docker", "rich", "starlette", "uvicorn"} & set(loaded)


def unreached() -> MCPServer:
    server = MCPServer("sums")

    @server.tool(name="sums__fails")
    def fails() -> str:
        raise ToolError("connection refused by example.com")

    return server


@pytest.mark.parametrize("listening", [unreached().streamable_http_app()], indirect=True)
@pytest.mark.usefixtures("up")
def test_a_server_that_may_reach_no_host_is_said_to_be_so_when_it_cannot_connect(hm, home):
    assert "hm sandbox learn sums" in hm("call", "sums.fails").err
    lock = (home / "harbour.lock").read_text()
    assert '"run": {}' in lock
    (home / "harbour.lock").write_text(lock.replace('"run": {}', '"run": {"network": {"hosts": ["example.com:443"]}}'))
    assert "hm sandbox learn" not in hm("call", "sums.fails").err


def test_a_lock_that_cannot_be_read_has_a_remedy_that_helps(hm, home):
    (home / "harbour.lock").write_text("garbage")
    said = hm("tools", "ls")
    assert "error [lock.invalid]" in said.err
    assert "move it away and run hm up" in said.err
    (home / "harbour.lock").rename(home / "harbour.lock.broken")
    assert hm("tools", "ls").status == 0
