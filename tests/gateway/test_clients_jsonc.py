import json

import pytest

from gateway.clients import jsonc

COMMENTED = """\
// settings of mine
{
    "theme": "dark", // easy on the eyes
    "mcpServers": {
        "time": { "command": "uvx", "args": ["mcp-time",] }, /* kept */
    },
    // the end
}
"""


def test_an_entry_is_added_and_every_other_byte_stays():
    after = jsonc.put(COMMENTED, ("mcpServers", "hm"), {"url": "u"})
    added = '        "hm": {\n            "url": "u"\n        },\n'
    assert after == COMMENTED.replace("/* kept */\n", "/* kept */\n" + added)


@pytest.mark.parametrize(
    "text",
    [
        COMMENTED,
        '{\n  "a": 1,\n  "mcpServers": {\n    "x": {}\n  }\n}\n',
        '{\r\n\t"a": 1, // c\r\n\t"mcpServers": {\r\n\t\t"x": {}\r\n\t}\r\n}\r\n',
        '{"a": 1, "mcpServers": {"x": {"k": "} // not a comment"}}}',
    ],
    ids=["comments", "plain", "tabs and CRLF", "one line"],
)
def test_removing_what_was_added_leaves_the_same_document(text):
    after = jsonc.put(text, ("mcpServers", "hm"), {"url": "u", "list": [1, 2]})
    back = jsonc.remove(after, ("mcpServers", "hm"))
    assert jsonc.loads(back) == jsonc.loads(text)
    assert back == text or "\n" not in text


def test_line_ends_and_indentation_are_those_of_the_file():
    after = jsonc.put('{\r\n\t"a": 1\r\n}\r\n', ("m", "hm"), {"u": 1})
    assert after == '{\r\n\t"a": 1,\r\n\t"m": {\r\n\t\t"hm": {\r\n\t\t\t"u": 1\r\n\t\t}\r\n\t}\r\n}\r\n'


def test_replacing_a_value_touches_nothing_around_it():
    text = '{"m": {"hm": {"old": true} /* ours */, "b": 2}}'
    assert jsonc.put(text, ("m", "hm"), {}) == '{"m": {"hm": {} /* ours */, "b": 2}}'


@pytest.mark.parametrize("text", ["", " \n", "// nothing yet\n"])
def test_a_file_without_a_value_becomes_a_document(text):
    assert jsonc.loads(jsonc.put(text, ("m", "hm"), {"u": 1})) == {"m": {"hm": {"u": 1}}}


def test_the_last_entry_leaves_an_empty_object():
    assert jsonc.remove('{"m": {\n  "hm": {}\n}}', ("m", "hm")) == '{"m": {}}'


def test_of_two_members_with_one_name_the_last_counts_as_it_does_for_readers():
    text = '{"m": 1, "m": {"x": 1}}'
    assert jsonc.loads(jsonc.put(text, ("m", "hm"), 2)) == json.loads('{"m": {"x": 1, "hm": 2}}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1', "line 1"),
        ('{\n"a" 1}', "line 2"),
        ('{"a": tru}', "value"),
        ('{"a": 1} x', "follows"),
        ('{"a": 1 "b": 2}', "comma"),
        ('{"a": "no end\n}', "does not end"),
        ('{"a": 01}', "line 1"),
        ("/* never closed", "value"),
        ("[" * 5000, "deeper"),
        ("{'a': 1}", "double quotes"),
        ('{"a": "\\x"}', "escape"),
    ],
)
def test_what_is_not_json_is_refused_and_the_line_named(text, says):
    with pytest.raises(jsonc.Malformed, match=says):
        jsonc.loads(text)


def test_a_place_for_servers_that_is_no_object_is_refused():
    with pytest.raises(jsonc.Malformed, match="object"):
        jsonc.put('{"mcpServers": []}', ("mcpServers", "hm"), {})


@pytest.mark.parametrize("value", [0, -1.5e3, "é\\u0000\n", [], {"a": [None, True, {"b": "//"}]}])
def test_it_reads_json_as_the_standard_library_does(value):
    text = json.dumps({"v": value}, ensure_ascii=True, indent=1)
    assert jsonc.loads(text) == json.loads(text)
