import pytest

from gateway.cli_arguments import arguments, describe
from gateway.cli_errors import ArgumentsInvalid

SCHEMA = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string", "description": "what to say"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "loud": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "deep": {"type": "object"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"type": ["integer", "string"]},
        "unit": {"enum": ["C", "F"]},
        "level": {"enum": [1, 2]},
        "ref": {"$ref": "#/$defs/Size", "description": "a size"},
        "anything": {},
        "lists": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
    },
    "$defs": {"Size": {"type": "integer"}},
}


def typed(*words, given=None, schema=SCHEMA):
    return arguments("srv.tool", schema, ["text=x", *words] if schema is SCHEMA else words, given)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("count=3", {"count": 3}),
        ("count=-3", {"count": -3}),
        ("ratio=3", {"ratio": 3}),
        ("ratio=1e3", {"ratio": 1000.0}),
        ("loud=true", {"loud": True}),
        ("loud=False", {"loud": False}),
        ("tags=a", {"tags": ["a"]}),
        ('tags=["a", "b"]', {"tags": ["a", "b"]}),
        ("sizes=1", {"sizes": [1]}),
        ('deep={"a": [1]}', {"deep": {"a": [1]}}),
        ("maybe=5", {"maybe": 5}),
        ("maybe=null", {"maybe": None}),
        ("either=5", {"either": "5"}),
        ("unit=C", {"unit": "C"}),
        ("level=2", {"level": 2}),
        ("ref=7", {"ref": 7}),
        ("anything=7", {"anything": 7}),
        ("anything=plain words", {"anything": "plain words"}),
        ("lists=1.5", {"lists": [1.5]}),
        ("count:=4", {"count": 4}),
        ('either:={"a":1}', {"either": {"a": 1}}),
        ("tags:=[]", {"tags": []}),
    ],
)
def test_a_word_becomes_what_the_schema_wants(word, value):
    assert typed(word) == {"text": "x", **value}


@pytest.mark.parametrize("text", ["a=b", "007", "true", '{"a": 1}', "", "null", ":=", "- dash"])
def test_a_string_stays_exactly_as_it_was_typed(text):
    assert arguments("t", SCHEMA, [f"text={text}"]) == {"text": text}


def test_a_key_given_again_adds_to_a_list():
    assert typed("tags=a", "tags=b", 'tags=["c"]')["tags"] == ["a", "b", "c"]


def test_words_win_over_the_object_that_was_read():
    assert arguments("t", SCHEMA, ["count=2"], {"text": "from a file", "count": 1}) == {
        "text": "from a file",
        "count": 2,
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["text=a", "text=b"], "text is given twice"),
        (["text=a", "nope=1"], "no argument 'nope'; it takes text"),
        ([], "text is missing"),
        (["text=a", "count=many"], "count must be an integer, not 'many'"),
        (["text=a", "count=1.5"], "count must be an integer"),
        (["text=a", "ratio=nan"], "ratio must be a number"),
        (["text=a", "loud=maybe"], "loud must be a boolean"),
        (["text=a", "deep=[1]"], "deep must be an object"),
        (["text=a", "sizes=x"], "sizes must be an array"),
        (["text=a", "count:=x"], "is not JSON"),
        (["text"], "not an argument"),
        (["=x"], "not an argument"),
        ([":=1"], "not an argument"),
    ],
)
def test_a_word_that_does_not_fit_is_refused_and_the_schema_named(words, says):
    with pytest.raises(ArgumentsInvalid, match=says) as e:
        arguments("srv.tool", SCHEMA, words)
    assert "hm tools inspect srv.tool" in e.value.remedy
    assert e.value.exit_status == 2


def test_an_unknown_key_in_the_object_that_was_read_is_refused_too():
    with pytest.raises(ArgumentsInvalid, match="no argument 'nope'"):
        arguments("t", SCHEMA, [], {"text": "a", "nope": 1})


def test_a_tool_that_takes_more_than_it_lists_gets_it():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert arguments("t", schema, ["any=1"]) == {"any": 1}


def test_a_tool_without_arguments_says_so():
    with pytest.raises(ArgumentsInvalid, match="takes no arguments"):
        arguments("t", {"type": "object", "properties": {}}, ["a=1"])


def test_a_tool_that_says_nothing_of_its_arguments_gets_what_is_typed():
    assert arguments("t", {"type": "object"}, ["a=1", "b=words"]) == {"a": 1, "b": "words"}


def test_a_schema_that_refers_to_itself_ends():
    loop = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert arguments("t", loop, ["a=1"]) == {"a": 1}
    nested: dict = {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}}
    assert arguments("t", nested, ["a=1"]) == {"a": 1}


@pytest.mark.parametrize("schema", [{}, {"properties": []}, {"properties": {"a": None}}, {"required": "a"}])
def test_a_schema_of_the_wrong_shape_does_not_crash(schema):
    describe(schema)
    arguments("t", {**schema, "additionalProperties": True}, ["a:=1"])


def test_a_description_has_one_row_per_argument():
    rows = {name: (kind, must, text) for name, kind, must, text in describe(SCHEMA)}
    assert rows["text"] == ("string", True, "what to say")
    assert rows["unit"][0] == "one of C|F"
    assert rows["maybe"][0] == "integer"
    assert rows["ref"] == ("integer", False, "a size")
