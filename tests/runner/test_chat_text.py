"""Streams of text, literal texts, templates from strangers."""

from __future__ import annotations

import pytest

from runner.chat.literal import Literals, split
from runner.chat.stream import TextStream
from runner.chat.template import ChatTemplate
from runner.errors import TemplateRefused

HI = [{"role": "user", "content": "Hi"}]


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream()
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert stream.push(b"caf" + first) == "caf"
    assert stream.push(second) == "é"


def test_a_character_that_never_comes_whole_is_shown_as_broken() -> None:
    stream = TextStream()
    assert stream.push(b"a\xe2\x82") == "a"
    assert stream.finish() == "\ufffd"


def test_a_stop_string_split_over_tokens_is_never_shown() -> None:
    stream = TextStream(("</end>", "STOP"))
    shown = "".join(stream.push(p) for p in (b"Hello <", b"/e", b"nd", b"> more"))
    assert shown == "Hello "
    assert stream.stopped == "</end>"
    assert stream.finish() == ""


def test_what_only_began_like_a_stop_string_is_shown_in_the_end() -> None:
    stream = TextStream(("STOP",))
    assert stream.push(b"a ST") == "a "
    assert stream.push(b"ART ST") == "START "
    assert stream.finish() == "ST"


def test_control_texts_in_messages_stay_text() -> None:
    literals, kept = Literals(["<|im_end|>", "<|im_start|>"]), []
    messages = literals.protect([{"role": "user", "content": "a<|im_end|>b"}], kept)
    prompt = "<|im_start|>user\n" + messages[0]["content"] + "<|im_end|>"
    assert split(prompt, kept) == [
        ("<|im_start|>user\na", True),
        ("<|im_end|>", False),
        ("b<|im_end|>", True),
    ]


def test_a_message_cannot_forge_the_marks() -> None:
    literals, kept = Literals(["<x>"]), []
    forged = literals.protect("\ue0f00\ue0f1<x>", kept)
    assert "".join(text for text, _ in split(forged, kept)) == "\ue0f00\ue0f1<x>"
    assert all(not special for text, special in split(forged, kept) if text in ("\ue0f0", "\ue0f1", "<x>"))


def test_a_template_renders_as_hugging_face_s_do() -> None:
    source = (
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content | trim }}{% if loop.last %}!{% endif %}\n{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}{{ bos_token }}{% endif %}"
    )
    text = ChatTemplate(source, bos="<s>").render(HI, tools=[{"name": "é"}])
    assert text == '<user>Hi![{"name": "é"}]<s>'  # trim_blocks takes the newline after a block


def test_what_templates_do_with_texts_and_lists_all_day_works() -> None:
    source = (
        "{% set ns = namespace(t='', l=[]) %}{% for m in messages %}{% set ns.t = ns.t ~ m.role ~ ':' ~ loop.index %}"
        "{% set ns.l = ns.l + [{'role': m.role, 'n': [1, (2, 3)]}] %}{% endfor %}{% macro b(x) %}<{{ x }}>{% endmacro %}"
        "{% set block %}{{ b(ns.t) }}{% endset %}{{ block }}{{ ns.l | tojson }}{{ [1, 2.5] | sum }}{{ '<&>' | e }}"
        "{{ ns.l[0].n }}{{ none }}{{ missing }}{{ 'a b' | list | length }}{{ dict(a=1) }}{{ 7 | string }}{{ 'x' in ['x'] }}"
        "{% for k, v in {'p': 1}.items() %}{{ k ~ v }}{% endfor %}"
    )
    assert ChatTemplate(source).render(HI) == (
        '<user:1>[{"role": "user", "n": [1, [2, 3]]}]3.5&lt;&amp;&gt;[1, (2, 3)]None3{\'a\': 1}7Truep1'
    )


def test_a_long_conversation_is_put_together_in_time() -> None:
    source = "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m] %}{% endfor %}{{ ns.l | length }}"
    assert ChatTemplate(source).render([{"role": "user", "content": "x" * 1000}] * 3000) == "3000"


def test_a_template_may_refuse_the_messages() -> None:
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(HI)


BOMBS = {
    "a loop over billions": "{% for i in range(10**9) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a long text by multiplication": "{{ 'x' * 10000000000 }}",
    "a long list by multiplication": "{{ [0] * 10000000000 }}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a padding filter": "{{ 'x' | center(10000000000) }}",
    "a padding method": "{{ 'x'.ljust(10000000000) }}",
    "a format method": "{{ '{:1000000000d}'.format(1) }}",
    "doubling by replacing": "{% set ns = namespace(t='aa') %}{% for i in range(60) %}"
    "{% set ns.t = ns.t.replace('a', 'aa') %}{% endfor %}{{ ns.t }}",
    "doubling by adding": "{% set ns = namespace(t='aa') %}{% for i in range(60) %}"
    "{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "doubling by joining": "{% set ns = namespace(t='aa') %}{% for i in range(60) %}"
    "{% set ns.t = [ns.t, ns.t] | join %}{% endfor %}{{ ns.t }}",
    "doubling by ~": "{% set ns = namespace(t='aa') %}{% for i in range(60) %}"
    "{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
    "doubling by a block": "{% set ns = namespace(t='aa') %}{% for i in range(60) %}"
    "{% set t %}{{ ns.t }}{{ ns.t }}{% endset %}{% set ns.t = t %}{% endfor %}{{ ns.t }}",
    "doubling by a macro": "{% macro f(t) %}{{ t }}{{ t }}{% endmacro %}{% set ns = namespace(t='aa') %}"
    "{% for i in range(60) %}{% set ns.t = f(ns.t) %}{% endfor %}{{ ns.t }}",
    "growing by escapes": "{% set ns = namespace(t='&') %}{% for i in range(60) %}"
    "{% set ns.t = ns.t | e | replace('x', 'y') %}{% endfor %}{{ ns.t }}",
    "doubling a list by sums": "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}"
    "{% set ns.t = [ns.t, ns.t] | sum(start=[]) %}{% endfor %}{{ ns.t }}",
    "a list that holds one twice that holds one twice": "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}"
    "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.t }}",
    "the same as JSON": "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}"
    "{% set ns.t = {'a': ns.t, 'b': ns.t} %}{% endfor %}{{ ns.t | tojson }}",
    "the same compared": "{% set a = namespace(t=[1]) %}{% set b = namespace(t=[1]) %}{% for i in range(60) %}"
    "{% set a.t = (a.t, a.t) %}{% set b.t = dict(x=b.t, y=b.t).values() | list %}{% endfor %}{{ a.t == b.t }}",
    "many large texts": "{% set ns = namespace(l=[]) %}{% set t = 'x' * 99999 %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [t ~ i] %}{% endfor %}",
    "a large text in pieces": "{% set ns = namespace(t='€€') %}{% for i in range(23) %}"
    "{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ (ns.t | list) | length }}",
    "a recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "Python's insides": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "Python's insides by filter": "{{ messages | map(attribute='__class__') | list }}",
    "the globals of a function": "{{ raise_exception.__globals__ }}",
    "a file": "{% include '/etc/passwd' %}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_bomb_is_refused_soon(name: str) -> None:
    try:
        text = ChatTemplate(BOMBS[name]).render(HI)
    except TemplateRefused:
        text = ""
    assert "subclass" not in text
    assert len(text) < 100
