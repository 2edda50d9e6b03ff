"""Input that somebody wrote to hurt: refused with a reason, or rendered harmless; never a crash, a hang or a surprise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.errors import EntryUnreadable, SourceUnreadable
from catalog.records import EntryRecord, UnreadRecord
from catalog.sources.docker_catalog import read_catalog_file, read_tile
from catalog.sources.documents import parse_json, parse_yaml
from catalog.sources.folder import read_folder
from catalog.sources.serverfile import read_server
from catalog.text import hidden_characters, many_lines, one_line

BASE = "name: x\ntype: server\nimage: mcp/x\nabout: {title: X}\nsource: {commit: '%s'}\n" % ("0" * 40)


def bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bomb(), "too many"),
        ("a: &a [*a]", "names nothing"),
        ("[" * 200 + "]" * 200, "depth"),
        ("[" * 100_000, "depth"),
        ("a: 1\na: 2", "twice"),
        ("a: !!python/object/apply:os.system ['id']", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("a: !custom x", "tag"),
        ("<<: {a: 1}", "plain keys"),
        ("? [a, b]\n: c", "plain keys"),
        ("--- 1\n--- 2", "single document"),
        ("a: 'open", "line 1"),
        ("", "empty"),
        ("\t- x", "line 1"),
        ("a: \x00", ""),
        ("a: &x 1\nb: *y", "alias"),
    ],
)
def test_yaml_that_is_no_plain_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(EntryUnreadable) as caught:
        parse_yaml(text.encode())
    assert why in caught.value.message
    assert caught.value.remedy


def test_yaml_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(EntryUnreadable, match="UTF-8"):
        parse_yaml(b"a: \xff\xfe")


def test_numbers_dates_and_words_stay_what_people_wrote() -> None:
    value = parse_yaml(b"a: 1\nb: 1.5\nc: true\nd: null\ne: 2026-01-01\nf: '0123'\ng: 1e999999\n").value
    assert value == {"a": 1, "b": 1.5, "c": True, "d": None, "e": "2026-01-01", "f": "0123", "g": "1e999999"}


@pytest.mark.parametrize("text", ["NaN", '{"a": 1, "a": 2}', "[" * 100_000, "{", "Infinity", ""])
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(EntryUnreadable):
        parse_json(text.encode())


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "a/b", "", ".", "..", "-x", "a" * 200, "a\nb", "a b", "\u0430pple", "x\u202e", "a..b"]
)
def test_a_name_that_could_be_a_path_or_a_disguise_is_refused(name: str) -> None:
    with pytest.raises(EntryUnreadable, match="name"):
        read_server(BASE.replace("name: x", f"name: {json.dumps(name)}").encode())
    with pytest.raises(EntryUnreadable, match="name"):
        read_tile(name, {"title": "X", "type": "server"})


def test_an_entry_that_points_elsewhere_by_link_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "servers" / "x"
    folder.mkdir(parents=True)
    (tmp_path / "secret.yaml").write_text(BASE)
    (folder / "server.yaml").symlink_to(tmp_path / "secret.yaml")
    (offer,) = read_folder(tmp_path)
    assert isinstance(offer, UnreadRecord)


def test_a_huge_entry_is_refused_and_a_huge_readme_is_cut(tmp_path: Path) -> None:
    for name, extra in (("big", "#" * 600_000), ("x", "")):
        folder = tmp_path / "servers" / name
        folder.mkdir(parents=True)
        (folder / "server.yaml").write_text(BASE.replace("name: x", f"name: {name}") + extra)
    (tmp_path / "servers/x/readme.md").write_text("word " * 2_000_000)
    big, x = read_folder(tmp_path)
    assert isinstance(big, UnreadRecord)
    assert "larger" in big.message
    assert isinstance(x, EntryRecord)
    assert len(x.readme) <= 100_000
    assert [f.code for f in x.findings if f.path == "readme"] == ["text.long"]
    assert x.runnable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc\u202ecba", "abccba"),
        ("a\u200bb", "ab"),
        ("\u2066x\u2069", "x"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("line\nbreak\ttab", "line break tab"),
        ("nul\x00bell\x07", "nulbell"),
        ("lone\ud800", "lone"),
        ("cafe\u0301", "café"),
        ("hid\ufe0f\ufe0fden", "hidden"),
    ],
)
def test_what_nobody_sees_is_taken_away(text: str, shown: str) -> None:
    assert one_line(text, 100) == shown


@pytest.mark.parametrize(
    "text", ["👩‍💻 work", "⚠️ note", "1️⃣ first", "नमस्ते", "می‌خواهم", "日本語", "Ünïcödé", "naïve — “quotes”"]
)
def test_what_people_write_stays(text: str) -> None:
    assert one_line(text, 100) == text
    assert hidden_characters(text) == []


def test_hidden_text_in_an_entry_holds_it_back() -> None:
    record = read_server((BASE + 'config: {description: "fine\\u202E"}\n').encode())
    assert [f.code for f in record.findings if f.severity == "error"] == ["text.hidden"]
    assert not record.runnable


def test_hidden_text_in_recorded_tools_holds_it_back() -> None:
    tools = json.dumps([{"name": "t", "description": "Adds.\U000e0049\U000e0067"}]).encode()
    assert not read_server(BASE.encode(), tools).runnable


def test_script_stays_text() -> None:
    script = "<script>alert(1)</script>"
    record = read_server(BASE.replace("title: X", f"title: '{script}', description: '{script}'").encode())
    assert record.title == record.description == script


def test_a_text_without_end_is_cut() -> None:
    noted: list[str] = []
    assert len(many_lines("x" * 10_000, 4000, lambda code, _m: noted.append(code))) == 4000
    assert noted == ["text.long"]


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        "name: [x]",
        "name: x",
        "name: x\ntype: [server]",
        "name: x\ntype: rocket",
        "just text",
        "- list",
        "name: 5\ntype: server",
    ],
)
def test_what_is_no_entry_is_refused(value: str) -> None:
    with pytest.raises(EntryUnreadable):
        read_server(value.encode())


@pytest.mark.parametrize(
    "part", ["about", "meta", "source", "run", "config", "oauth", "tools", "remote", "image", "dynamic"]
)
@pytest.mark.parametrize(
    "value", ["5", "text", "[1, [2]]", "{a: {b: [null]}}", "null", "[{container: 5, parameters: [x]}]"]
)
def test_a_part_of_the_wrong_shape_never_breaks_the_reader(part: str, value: str) -> None:
    text = f"name: x\ntype: server\n{part}: {value}\n"
    assert read_server(text.encode()).name == "x"
    tile = parse_yaml(f"type: poci\n{part}: {value}\n".encode()).value
    assert read_tile("x", tile).name == "x"


@pytest.mark.parametrize("text", ["", "[]", "registry: []", "registry: 5", bomb()])
def test_what_is_no_catalog_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(SourceUnreadable):
        list(read_catalog_file(tmp_path / "catalog.yaml"))
    with pytest.raises(SourceUnreadable):
        list(read_catalog_file(tmp_path / "absent.yaml"))
