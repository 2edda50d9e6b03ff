import dataclasses

import pytest

from gateway.cli_errors import ToolAmbiguous, ToolUnknown
from gateway.cli_lookup import find, tools_of
from gateway.cli_output import columns, one_line, short_path, visible
from gateway.cli_result import text_of
from gateway.lock import LockedServer, pin_of

DIGEST = "sha256:" + "0" * 64


def server(name: str, *tools: str, enabled: bool = True) -> LockedServer:
    listing = {"protocolVersion": "2025-11-25", "tools": [{"name": t, "inputSchema": {}} for t in tools]}
    return LockedServer(
        name, "built", "1", DIGEST, DIGEST, "key", DIGEST, DIGEST, pin_of(listing), enabled, listing
    )  # fmt: skip


LOCK = {
    s.name: s
    for s in (
        server("time", "now", "convert"),
        server("fs", "read", "list"),
        server("git", "list", "log.all"),
        server("off", "secret", enabled=False),
    )
}


@pytest.mark.parametrize(
    ("text", "dotted", "wire"),
    [
        ("time.now", "time.now", "time__now"),
        ("now", "time.now", "time__now"),
        ("fs.list", "fs.list", "fs__list"),
        ("fs__list", "fs.list", "fs__list"),
        ("git.log.all", "git.log.all", find(LOCK, "git.log.all").wire_name),
        ("log.all", "git.log.all", find(LOCK, "git.log.all").wire_name),
    ],
)
def test_a_tool_is_found_by_any_of_its_names_and_called_by_one_that_is_its_own(text, dotted, wire):
    tool = find(LOCK, text)
    assert (tool.dotted, tool.wire_name) == (dotted, wire)


def test_a_name_that_two_servers_have_is_refused_and_both_are_named():
    with pytest.raises(ToolAmbiguous, match=r"fs\.list, git\.list"):
        find(LOCK, "list")


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        ("off.secret", "disabled", "hm server enable off"),
        ("time.nope", "time has no such tool", "it has: convert, now"),
        ("nope", "no tool named nope", "hm tools ls"),
        ("nope.x", "no tool named nope.x", "hm tools ls"),
    ],
)
def test_what_is_not_there_says_what_to_do(text, says, remedy):
    with pytest.raises(ToolUnknown, match=says) as e:
        find(LOCK, text)
    assert remedy in e.value.remedy


def test_the_list_shows_enabled_servers_by_the_names_that_clients_see():
    assert [t.public for t in tools_of(LOCK)][:4] == ["fs__list", "read", "git__list", find(LOCK, "log.all").public]
    assert all(t.server != "off" for t in tools_of(LOCK))


def test_a_server_enabled_later_does_not_take_over_a_name():
    grown = {**LOCK, "off": dataclasses.replace(server("off", "now"), enabled=True)}
    with pytest.raises(ToolAmbiguous):
        find(grown, "now")
    assert find(grown, "time.now").wire_name == "time__now"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]}, "[image image/png, 3 bytes]"),
        ({"content": [{"type": "audio", "mimeType": "audio/wav", "data": "A" * 4000}]}, "[audio audio/wav, 3.0 kB]"),
        ({"content": [{"type": "resource_link", "uri": "x://y", "name": "n"}]}, "[resource x://y n]"),
        ({"content": [{"type": "resource", "resource": {"uri": "x://y", "text": "inside"}}]}, "inside"),
        (
            {"content": [{"type": "resource", "resource": {"uri": "x://y", "mimeType": "a/b", "blob": "AA=="}}]},
            "[resource x://y a/b, 1 bytes]",
        ),
        ({"content": [], "structuredContent": {"a": 1}}, '{\n  "a": 1\n}'),
        ({"content": [{"type": "text", "text": "a"}], "structuredContent": {"a": 1}}, "a"),
        ({"content": [{"type": "hologram"}]}, "[hologram that this version cannot show; --json shows it]"),
        ({"content": "odd"}, ""),
        ({}, ""),
    ],
)
def test_a_result_is_shown_as_text(result, text):
    assert text_of(result) == text


def test_what_a_server_says_cannot_drive_the_terminal():
    assert visible("a\x1b[2Jb\u202ec\n") == "a\\x1b[2Jb\\u202ec\n"
    assert one_line("\x1b]0;title\x07 first\nsecond") == "\\x1b]0;title\\x07 first"
    assert len(one_line("x" * 500)) == 100


def test_columns_line_up(tmp_path):
    assert columns(("A", "B"), [("long", "x"), ("s", "")]) == "A     B\nlong  x\ns\n"
    assert short_path(f"{tmp_path}/x", tmp_path) == "~/x"
