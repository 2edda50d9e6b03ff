"""A call of a tool image as words for its program: what a caller may say, and what no value can become."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from registry.build.errors import EntryInvalid
from registry.errors import WordsRefused
from registry.oneshot import MAX_OUTPUT, MAX_WORD, MAX_WORDS, Output, listing_of_tools, words
from registry.schema import parse_entry, parse_reading

DIGEST = "sha256:" + "7" * 64
ENTRY = """\
name: net
type: poci
tier: community
about: {{title: Net, description: Fetches and looks.}}
meta: {{category: web}}
config:
  parameters:
    agent: {{type: string, description: Who asks, default: ahoy}}
tools:
  - name: fetch
    description: Fetches an address.
    parameters:
      type: object
      properties:
        url: {{type: string}}
        headers: {{type: array, items: {{type: string}}}}
        page: {{type: object}}
      required: [url]
    container:
      image: ghcr.io/acme/fetch:1@{digest}
      command: {command}
"""


def entry(command: str) -> Any:
    return parse_entry(Path("net/server.yaml"), ENTRY.format(digest=DIGEST, command=command).encode())


def test_each_template_is_one_word_whatever_it_holds() -> None:
    said = words(["-q", "{{url}}", "--to={{name}}"], {"url": "a b; rm -rf / $(x) '\"", "name": "--evil -x"}, {})

    assert said == ["-q", "a b; rm -rf / $(x) '\"", "--to=--evil -x"]


@pytest.mark.parametrize("value", ["-o/etc/passwd", "--output=x", "-", -1])
def test_no_value_becomes_an_option(value: object) -> None:
    with pytest.raises(WordsRefused, match="taken for an option"):
        words(["get", "{{url}}"], {"url": value}, {})


def test_nor_does_a_setting(value: str = "--evil") -> None:
    with pytest.raises(WordsRefused, match="taken for an option"):
        words(["{{agent}}"], {}, {"agent": value})


def test_a_list_becomes_words_only_where_the_entry_says_so() -> None:
    given = {"args": ["-i", "in.png", "out.png", 3, True]}

    assert words(["{{args|into}}"], given, {}) == ["-i", "in.png", "out.png", "3", "true"]
    assert words(["x{{args}}"], given, {}) == ["x-i,in.png,out.png,3,true"]
    with pytest.raises(WordsRefused, match="taken for an option"):
        words(["{{args}}"], given, {})
    with pytest.raises(WordsRefused, match="taken for an option"):
        words(["{{args|first}}"], given, {})


def test_a_value_is_never_a_template_itself() -> None:
    assert words(["{{url}}"], {"url": "{{secret}}{{agent}}"}, {"agent": "x"}) == ["{{secret}}{{agent}}"]


def test_a_calls_own_argument_comes_before_a_setting_of_the_same_name() -> None:
    assert words(["{{agent}}", "{{more|into}}", "{{none}}"], {"agent": "mine"}, {"agent": "set"}) == ["mine", ""]
    assert words(["{{page.title}}"], {"page": {"title": "T"}}, {}) == ["T"]


@pytest.mark.parametrize(
    "value", [{"a": 1}, [["x"]], "nul\0", "half \ud800", "x" * (MAX_WORD + 1), [{"a": 1}]], ids=str
)
def test_what_cannot_be_a_word_is_refused(value: object) -> None:
    with pytest.raises(WordsRefused):
        words(["{{url}}"], {"url": value}, {})


def test_there_are_never_more_words_than_a_program_takes() -> None:
    with pytest.raises(WordsRefused, match="words"):
        words(["{{args|into}}"], {"args": ["x"] * (MAX_WORDS + 1)}, {})
    with pytest.raises(WordsRefused, match="bytes"):
        words(["{{args|into}}"], {"args": ["x" * 90_000] * 12}, {})


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("['{{uri}}']", "tools.0.container.command.0"),
        ("['{{url|shout}}']", "tools.0.container.command.0"),
        ("['{{url}']", "tools.0.container.command.0"),
        ("[sh, -c, 'wget {{url}}']", "tools.0.container.command.2"),
        ("[/bin/busybox, sh, -c, 'wget {{url}}']", "tools.0.container.command.3"),
        ("[python3, -c, 'print(\"{{url}}\")']", "tools.0.container.command.2"),
        ("[node, -e, '{{url}}']", "tools.0.container.command.2"),
    ],
)
def test_a_template_that_leads_nowhere_or_into_a_script_is_no_entry(command: str, where: str) -> None:
    with pytest.raises(EntryInvalid) as refused:
        entry(command)

    assert refused.value.details["key"] == where


@pytest.mark.parametrize("command", ["[sh, -c, 'wget \"$1\"', sh, '{{url}}']", "[curl, -c, jar, '{{url}}']"])
def test_a_value_beside_a_script_is_an_argument_of_it(command: str) -> None:
    assert entry(command).tools[0].container is not None


def test_whoever_reads_the_entry_hears_that_callers_choose_the_options() -> None:
    text = ENTRY.format(digest=DIGEST, command="['{{headers|into}}', '{{url}}']").encode()

    advice = parse_reading(Path("net/server.yaml"), text).advice

    assert [each.code for each in advice] == ["tool.options"]


def test_the_tools_are_listed_as_the_entry_says() -> None:
    listing = listing_of_tools(entry("['{{url}}']"))

    (tool,) = listing["tools"]
    assert (tool["name"], tool["description"]) == ("fetch", "Fetches an address.")
    assert tool["inputSchema"]["required"] == ["url"]
    assert tool["inputSchema"]["properties"]["headers"] == {"type": "array", "items": {"type": "string"}}
    assert listing["capabilities"] == {"tools": {}}


def result(*lines: bytes, status: int | None = 0, reason: str = "", stderr: str = "") -> dict[str, Any]:
    output = Output(lambda: None)
    for line in lines:
        output.line(line)
    return output.result(status, reason, stderr)


def test_what_a_program_prints_is_its_answer() -> None:
    assert result(b"one", b"", b"three") == {"content": [{"type": "text", "text": "one\n\nthree"}], "isError": False}
    assert result(stderr="only here")["content"] == [{"type": "text", "text": "only here"}]


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    png = b"\x89PNG\r\n\x1a\n\0\xff\n"
    (picture,) = result(*png.split(b"\n"))["content"]
    assert (picture["type"], picture["mimeType"]) == ("image", "image/png")
    assert base64.b64decode(picture["data"]) == png

    (other,) = result(b"\xff\xfe\0")["content"]
    assert base64.b64decode(other["resource"]["blob"]) == b"\xff\xfe\0"


def test_a_failure_says_how_it_ended() -> None:
    failed = result(b"half", status=7, stderr="it went wrong\n")
    assert failed["isError"] is True
    assert failed["content"][0]["text"] == "half\nit went wrong\nit ended with status 7"
    assert "out of memory" in result(status=None, reason="out of memory")["content"][0]["text"]


def test_nobody_reads_more_than_a_megabyte() -> None:
    told: list[bool] = []
    output = Output(lambda: told.append(True))
    for _ in range(MAX_OUTPUT // 1024 + 2):
        output.line(b"x" * 1023)

    assert told == [True], "the program is stopped once"
    assert output.result(0, "", "")["isError"] is True
    assert "printed more" in output.result(0, "", "")["content"][0]["text"]
