import json
import stat
from dataclasses import replace

import pytest

from gateway.clients.connector import BACKUP_SUFFIX, choose_transport, connect, current, disconnect, snippet
from gateway.clients.entry import Endpoint, transport_of
from gateway.clients.errors import ClientFileMalformed, ClientFileUnwritable, ClientUnknown, ClientUnsupported
from gateway.clients.places import Places, client_named, is_installed, path_of
from gateway.clients.table import CLIENTS, Client

ENDPOINT = Endpoint("http://127.0.0.1:8811/mcp", "/opt/harbourmaster/hm", env={"HM_HOME": "/srv/hm"})
TOKEN = "hm_secret"
IDS = [c.name for c in CLIENTS]
BOTH = [(c, t) for c in CLIENTS for t in ("http", "stdio") if t == "stdio" or c.http]


@pytest.fixture
def places(tmp_path):
    home, cwd = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    cwd.mkdir()
    return Places(home=home, cwd=cwd, environ={}, which=lambda name: None)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def link(client, places, transport="http", scope="user"):
    return connect(client, scope, places, transport, ENDPOINT, TOKEN)


@pytest.mark.parametrize(("client", "transport"), BOTH, ids=[f"{c.name}-{t}" for c, t in BOTH])
def test_connecting_writes_how_to_reach_us_and_again_changes_nothing(client: Client, transport, places):
    change = link(client, places, transport)
    text = change.path.read_text()
    assert change.changed
    assert transport_of(client, current(client, "user", places)) == transport
    if transport == "http":
        assert ENDPOINT.url in text
        assert f"Bearer {TOKEN}" in text
        assert mode(change.path) == 0o600
    else:
        assert ENDPOINT.command in text
        assert "/srv/hm" in text
        assert TOKEN not in text
    assert not link(client, places, transport).changed
    assert change.path.read_text() == text


@pytest.mark.parametrize("client", CLIENTS, ids=IDS)
def test_disconnecting_takes_only_our_entry_out(client: Client, places):
    path = link(client, places, "stdio").path
    assert disconnect(client, "user", places).changed
    assert current(client, "user", places) is None
    assert path.exists()
    assert not disconnect(client, "user", places).changed


@pytest.mark.parametrize("client", [c for c in CLIENTS if c.project], ids=lambda c: c.name)
def test_a_project_file_lies_in_the_project_and_holds_no_token_by_default(client: Client, places):
    transport = choose_transport(client, "project", None)
    path = link(client, places, transport, "project").path
    assert path.is_relative_to(places.cwd)
    assert TOKEN not in path.read_text()


@pytest.mark.parametrize("client", CLIENTS, ids=IDS)
def test_what_print_shows_is_what_a_new_file_holds(client: Client, places):
    transport = choose_transport(client, "user", None)
    assert link(client, places, transport).path.read_text() == snippet(client, "user", transport, ENDPOINT, TOKEN)


@pytest.mark.parametrize("client", CLIENTS, ids=IDS)
def test_every_client_names_its_source_and_a_sign_of_being_installed(client: Client, places):
    assert client.source
    assert client.signs
    assert not is_installed(client, places)
    sign = client.signs[0]
    if "/" in sign:
        places.expand(sign).mkdir(parents=True)
    found = replace(places, which=lambda name: f"/usr/bin/{name}" if name == sign else None)
    assert is_installed(client, found)


def test_the_persons_own_servers_keys_and_comments_stay(places):
    client = client_named("zed")
    path = path_of(client, "user", places)
    path.parent.mkdir(parents=True)
    before = '{\n  // mine\n  "theme": "One Dark",\n  "context_servers": {\n    "x": {"command": "y"}\n  }\n}\n'
    path.write_text(before)
    link(client, places)
    after = path.read_text()
    assert after.startswith(before.split('{"command"')[0])
    assert "// mine" in after
    disconnect(client, "user", places)
    assert path.read_text() == before


def test_the_file_as_it_was_is_kept_once_beside_it(places):
    client = client_named("cursor")
    path = path_of(client, "user", places)
    path.parent.mkdir(parents=True)
    path.write_text('{"mcpServers": {}}')
    path.chmod(0o644)
    backup = link(client, places).backup
    assert backup == path.with_name(path.name + BACKUP_SUFFIX)
    assert backup.read_text() == '{"mcpServers": {}}'
    assert mode(backup) == 0o600
    disconnect(client, "user", places)
    assert link(client, places, "stdio").backup is None
    assert backup.read_text() == '{"mcpServers": {}}'


def test_a_file_that_only_we_wrote_has_no_backup(places):
    client = client_named("cursor")
    path = link(client, places).path
    assert link(client, places, "stdio").backup is None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_mode_is_kept_where_no_token_is_written(places):
    client = client_named("claude-desktop")
    path = path_of(client, "user", places)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(0o640)
    link(client, places, "stdio")
    assert mode(path) == 0o640


def test_what_a_client_added_to_our_entry_survives_connecting_again(places):
    client = client_named("gemini")
    path = link(client, places).path
    body = json.loads(path.read_text())
    body["mcpServers"]["harbourmaster"]["trust"] = True
    path.write_text(json.dumps(body))
    link(client, places, "stdio")
    entry = json.loads(path.read_text())["mcpServers"]["harbourmaster"]
    assert entry["trust"] is True
    assert "url" not in entry
    assert entry["command"] == ENDPOINT.command


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("claude-code", '{"mcpServers": {'),
        ("claude-code", '{"mcpServers": []}'),
        ("claude-code", '["not", "an", "object"]'),
        ("codex", "[mcp_servers\n"),
        ("codex", 'mcp_servers = "x"\n'),
        ("goose", "extensions: [a\n"),
        ("goose", "extensions: text\n"),
        ("continue", "mcpServers:\n  a: b\n"),
    ],
)
def test_a_malformed_file_is_an_error_and_is_left_as_it_was(name, text, places):
    client = client_named(name)
    path = path_of(client, "user", places)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for attempt in (lambda: link(client, places), lambda: disconnect(client, "user", places)):
        with pytest.raises(ClientFileMalformed, match=str(path)):
            attempt()
    assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_not_text_is_an_error_and_is_left_as_it_was(places):
    client = client_named("cursor")
    path = path_of(client, "user", places)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ClientFileMalformed, match="UTF-8"):
        link(client, places)
    assert path.read_bytes() == b'{"a": "\xff"}'


def test_a_symlinked_file_stays_a_symlink(places, tmp_path):
    client = client_named("cursor")
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    path = places.home / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.symlink_to(real)
    link(client, places)
    assert path.is_symlink()
    assert ENDPOINT.url in real.read_text()


def test_a_project_file_that_leads_out_of_the_project_is_refused(places):
    outside = places.home / "settings.json"
    outside.write_text("{}")
    (places.cwd / ".mcp.json").symlink_to(outside)
    with pytest.raises(ClientFileUnwritable, match="out of this project"):
        link(client_named("claude-code"), places, "stdio", "project")
    assert outside.read_text() == "{}"


def test_a_directory_in_the_files_place_is_an_error(places):
    (places.home / ".claude.json").mkdir()
    with pytest.raises(ClientFileUnwritable, match="not a file"):
        link(client_named("claude-code"), places)


def test_a_client_that_says_where_its_files_are_is_believed(places, tmp_path):
    moved = replace(places, environ={"CODEX_HOME": str(tmp_path / "elsewhere")})
    assert link(client_named("codex"), moved).path == tmp_path / "elsewhere" / "config.toml"


def test_a_file_by_its_other_name_is_used_where_it_is_the_one_there(places):
    other = places.home / ".config/opencode/opencode.jsonc"
    other.parent.mkdir(parents=True)
    other.write_text("{ // mine\n}\n")
    assert link(client_named("opencode"), places).path == other
    assert "// mine" in other.read_text()
    (other.parent / "opencode.json").write_text("{}")
    assert path_of(client_named("opencode"), "user", places).name == "opencode.json"


def test_xdg_and_mac_places_are_followed(places, tmp_path):
    xdg = replace(places, environ={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert path_of(client_named("goose"), "user", xdg) == tmp_path / "xdg/goose/config.yaml"
    mac = replace(places, mac=True)
    assert path_of(client_named("vscode"), "user", mac).parts[-5:] == (
        "Library", "Application Support", "Code", "User", "mcp.json",
    )  # fmt: skip


def test_a_client_without_http_or_project_files_says_so(places):
    desktop = client_named("claude-desktop")
    assert choose_transport(desktop, "user", None) == "stdio"
    with pytest.raises(ClientUnsupported):
        choose_transport(desktop, "user", "http")
    with pytest.raises(ClientUnsupported):
        path_of(desktop, "project", places)


def test_an_unknown_client_is_refused_and_the_known_ones_named():
    with pytest.raises(ClientUnknown) as e:
        client_named("emacs")
    assert "claude-code" in e.value.remedy
