"""Help in people's words: Typer names options' types as a program does (``<list[str]>``, ``<bool>`` for a switch)."""

from __future__ import annotations

import functools
import re
from typing import Any

WORDS = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "PATH", "file": "PATH"}
_TYPE = re.compile(r"<(?:list\[)?(\w+)[^<>]*>(?:\.\.\.)?")


def in_words(command: Any) -> Any:
    """``command`` with all that is below it, its options' types as words; a switch has none."""
    for parameter in command.params:
        _plain(parameter)
    command.get_help_option = functools.partial(_help_option, command.get_help_option)  # made when it is asked for
    for each in getattr(command, "commands", {}).values():
        in_words(each)
    return command


def _plain(parameter: Any) -> Any:
    if parameter is not None and not isinstance(parameter.display_type_rich, functools.partial):
        parameter.display_type_rich = functools.partial(_word, parameter, parameter.display_type_rich)
    return parameter


def _help_option(original: Any, ctx: Any) -> Any:
    return _plain(original(ctx))


def _word(parameter: Any, original: Any, ctx: Any) -> str:
    if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
        return ""
    said = str(original(ctx=ctx) or "")
    found = _TYPE.fullmatch(said)
    if found is None:
        return said
    return WORDS.get(found[1], "" if found[1] == "bool" else said)
