import pytest

from gateway.clients import toml, yaml
from gateway.clients.jsonc import Malformed

CODEX = '# mine\nmodel = "m" # why\n\n[mcp_servers.time]\ncommand = "uvx"\n\n[tui]\ntheme = "dark"\n'
GOOSE = '# mine\nGOOSE_MODEL: "m"   # why\nextensions:\n  developer:\n    enabled: true\n    args:\n      - a\n'
CONTINUE = "name: x # mine\nmodels: []\nmcpServers:\n- name: time\n  command: uvx\n"


def test_toml_keeps_comments_and_puts_the_server_beside_the_others():
    after = toml.put(CODEX, ("mcp_servers", "hm"), {"url": "u", "http_headers": {"A": "b"}})
    table = '[mcp_servers.hm]\nurl = "u"\nhttp_headers = {A = "b"}\n\n'
    assert after == CODEX.replace("[tui]", table + "[tui]")
    assert toml.remove(after, ("mcp_servers", "hm")) == CODEX


def test_a_toml_comment_stays_with_what_it_is_about():
    text = 'a = 1\n\n[mcp_servers.hm]\nurl = "x" # ours\n\n[mcp_servers.hm.env]\nA = "b"\n\n# about tui\n[tui]\n'
    assert toml.remove(text, ("mcp_servers", "hm")) == "a = 1\n\n# about tui\n[tui]\n"
    changed = toml.put(text, ("mcp_servers", "hm"), {"url": "y"})
    assert changed == 'a = 1\n\n[mcp_servers.hm]\nurl = "y"\n\n# about tui\n[tui]\n'


def test_a_line_in_a_toml_string_is_not_taken_for_a_table():
    text = 'a = """\n[mcp_servers.hm]\n"""\nb = [\n  [1],\n]\n'
    after = toml.put(text, ("mcp_servers", "hm"), {"url": "y"})
    assert after.startswith(text)
    assert toml.loads(toml.remove(after, ("mcp_servers", "hm"))) == toml.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'model = "x"\n',
        "[a]\nb = 1\n",
        'mcp_servers = {time = {url = "u"}}\n[z]\na = 1\n',
        'mcp_servers.time.url = "u"\n',
        '[mcp_servers]\ntime = {url = "u"}\n',
        "a = 1\r\n[b]\r\nc = 2\r\n",
    ],
)
def test_toml_of_any_shape_gains_the_server_and_loses_it_again(text):
    before = toml.loads(text)
    after = toml.put(text, ("mcp_servers", "hm"), {"url": "u", "http_headers": {"A": "b"}})
    expected = {**before.get("mcp_servers", {}), "hm": {"url": "u", "http_headers": {"A": "b"}}}
    assert toml.loads(after) == {**before, "mcp_servers": expected}
    back = toml.loads(toml.remove(after, ("mcp_servers", "hm")))
    assert {k: v for k, v in back.items() if v} == before


def test_yaml_keeps_comments_quotes_and_indentation():
    after = yaml.put(GOOSE, ("extensions", "hm"), {"type": "stdio", "args": ["a"]})
    assert after == GOOSE + "  hm:\n    type: stdio\n    args:\n      - a\n"
    assert yaml.remove(after, ("extensions", "hm")) == GOOSE


def test_a_yaml_list_of_servers_gains_and_loses_one_by_name():
    after = yaml.put(CONTINUE, ("mcpServers", "hm"), {"name": "hm", "url": "u"}, list_key="name")
    assert after == CONTINUE + "- name: hm\n  url: u\n"
    again = yaml.put(after, ("mcpServers", "hm"), {"name": "hm", "url": "v"}, list_key="name")
    assert again == CONTINUE + "- name: hm\n  url: v\n"
    assert yaml.remove(again, ("mcpServers", "hm"), list_key="name") == CONTINUE


@pytest.mark.parametrize(
    "text",
    [
        "---\na: 1\nextensions:\n  x: {}\n# end\n",
        "a: 1\r\nextensions:\r\n  x:\r\n    b: 1 # c\r\n",
        "\ufeffa: 1\nextensions: {x: {y: 1}}\n",
        "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\nextensions:\n  x: |\n    several\n    lines\n",
        "a: 'q'\nb: \"é\"\nc: 0x10\nd: 1e3\ne: 007\nf: yes\nextensions:\n    x:\n        y: z\n",
    ],
    ids=["marker", "CRLF", "byte order mark", "anchors and blocks", "odd scalars"],
)
def test_yaml_of_any_style_is_the_same_again_after_connect_and_disconnect(text):
    after = yaml.put(text, ("extensions", "hm"), {"type": "stdio", "args": ["a"]})
    assert yaml.loads(after)["extensions"]["hm"] == {"type": "stdio", "args": ["a"]}
    assert yaml.remove(after, ("extensions", "hm")) == text


def test_a_yaml_comment_stays_with_what_it_is_about():
    text = "extensions:\n  x:\n    b: 1\n  hm:\n    u: 1\n  # about y\n  y:\n    b: 2\n# about z\nz: 1\n"
    assert yaml.remove(text, ("extensions", "hm")) == text.replace("  hm:\n    u: 1\n", "")
    assert yaml.put(text, ("extensions", "hm"), {"v": 1}) == text.replace("u: 1", "v: 1")
    only = "extensions:  # of mine\n  hm:\n    u: 1\n# end\n"
    assert yaml.remove(only, ("extensions", "hm")) == "extensions: {}  # of mine\n# end\n"
    alone = "extensions:\n  y:\n    b: 2\n\n# about z\nz: 1"
    after = yaml.put(alone, ("extensions", "hm"), {"v": 1})
    assert after == "extensions:\n  y:\n    b: 2\n  hm:\n    v: 1\n\n# about z\nz: 1"


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "- 1\n- 2\n", "a: !!python/object:os.system {}\n"])
def test_yaml_that_is_no_mapping_of_plain_values_is_refused(text):
    with pytest.raises(Malformed):
        yaml.put(text, ("extensions", "hm"), {})


@pytest.mark.parametrize("text", ["a = ", "[a\n", 'mcp_servers = "text"\n', "a = 1\na = 2\n"])
def test_toml_that_cannot_be_understood_is_refused(text):
    with pytest.raises(Malformed):
        toml.loads(text)
        toml.put(text, ("mcp_servers", "hm"), {})
