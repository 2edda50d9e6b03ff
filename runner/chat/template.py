"""Chat templates come with models, from strangers: Jinja2 in a sandbox with limits on output, operands and time.

The time limit needs the main thread (it is a signal), which is where the engine's process renders.  Known escapes of
limits are closed one by one: ``range``, multiplication and power of texts, padding filters and methods, formats with a
width, ``replace`` and ``join`` that grow, texts put together by ``~``, blocks and macros, lists that hold a list twice, which
holds one twice (nothing interrupts the C code that writes or compares such a thing).
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import jinja2
import markupsafe
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as loop_controls
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.errors import TemplateRefused

MAX_TEMPLATE_CHARS = 512 << 10  # the longest published ones are below 60,000
MAX_TEXT = 32 << 20  # characters of one text, of all in one list, or of the whole prompt
MAX_WORK = 512 << 20  # characters of all texts that one rendering puts together
MAX_PIECES = 4 << 20  # characters of a text that is taken apart: each piece costs some 80 bytes
MAX_RANGE = 100_000
MAX_SECONDS = 2.0
_METHODS = frozenset(  # of texts, lists and dicts: none that pads, formats or changes its object
    "capitalize count endswith find get index isalnum isalpha isdecimal isdigit islower isnumeric isspace istitle"  # noqa: SIM905
    " isupper items join keys lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit"
    " rstrip split splitlines startswith strip swapcase title upper values".split()
)
_FILTERS = frozenset(
    "abs capitalize count d default dictsort e escape first float groupby int items join last length list lower map max"  # noqa: SIM905
    " min reject rejectattr replace reverse round safe select selectattr sort string sum title tojson trim unique upper".split()
)


class _Generation(Extension):
    """Accepts Hugging Face's ``{% generation %}`` marks, which only matter for training."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Generator(CodeGenerator):
    """Has the environment look at whatever puts texts or lists together; Jinja intercepts arithmetic alone."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for each in node.nodes:
            self.write("environment.finalize(")
            self.visit(each, frame)
            self.write("), ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._held(super().visit_List, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._held(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._held(super().visit_Dict, node, frame)

    def _held(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.held(")
        visit(node, frame)
        self.write(")")


def held(value: Any) -> Any:
    """``value``, with all that is in it as often as it is there, within ``MAX_TEXT``."""
    room, todo = MAX_TEXT, [value]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            todo += each.values()
        elif isinstance(each, list | tuple):
            todo += each
        room -= 1 + (len(each) if isinstance(each, str) else 0)
        if room < 0:
            raise _refused("a list holds too much")
    return value


def _text(value: Any) -> str:
    """What a template writes of ``value``."""
    return value if isinstance(value, str) else str(held(value))


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    held = staticmethod(held)
    work = 0  # characters put together in this rendering

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def concat(self, parts: Iterable[str]) -> str:
        pieces, size = [], 0
        for each in parts:
            size += len(each)
            if size > MAX_TEXT:
                raise _refused("a text would be too long")
            pieces.append(each)
        self.spend(size)
        return "".join(pieces)

    def spend(self, characters: int) -> None:
        self.work += characters
        if self.work > MAX_WORK:
            raise _refused("it puts too many texts together")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sized = [v for v in (left, right) if isinstance(v, str | bytes | list | tuple)]
        if operator == "**" or (operator == "%" and isinstance(left, str | bytes)):
            raise _refused(f"the operator {operator} is not for templates")
        if operator == "*" and sized:
            times = right if sized[0] is left else left
            if not isinstance(times, int) or len(sized[0]) * times > MAX_RANGE:
                raise _refused("a repeated text would be too long")
        if operator == "*" and not sized and max(_bits(left), _bits(right)) > 64:
            raise _refused("numbers are too large")
        if operator == "+" and len(sized) == 2 and len(left) + len(right) > MAX_TEXT:
            raise _refused("a text would be too long")
        if sized:
            self.spend(sum(map(len, sized)))
        result = super().call_binop(context, operator, left, right)
        # One more item is what templates do all day.
        twice = isinstance(result, list | tuple) and min(map(len, sized)) > 1
        return held(result) if twice else result

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, jinja2.runtime.Context | jinja2.Environment):
            return False
        if callable(value) and isinstance(obj, str | bytes | list | tuple | dict | datetime):
            return attr in _METHODS
        return super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            self.spend(len(owner))
            _guard_text_method(getattr(obj, "__name__", ""), owner, args)
        return super().call(context, obj, *args, **kwargs)


def _guard_text_method(name: str, text: str, args: tuple[Any, ...]) -> None:
    if name == "replace" and len(args) >= 2 and all(isinstance(a, str) for a in args[:2]):
        _guard_replace(text, args[0], args[1])
    elif name == "join" and args:
        parts = list(args[0])
        if sum(len(_text(p)) for p in parts) + len(text) * len(parts) > MAX_TEXT:
            raise _refused("a text would be too long")
    elif name in ("split", "rsplit", "splitlines") and len(text) > MAX_PIECES:
        raise _refused("a text that is taken apart is too long")


def _guard_replace(text: str, old: str, new: str) -> None:
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise _refused("a text would be too long")


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    _guard_replace(_text(text), str(old), str(new))
    return _text(text).replace(str(old), str(new), count)


def _escape(value: Any) -> markupsafe.Markup:
    text = _text(value)
    if len(text) + 5 * sum(map(text.count, "&<>'\"")) > MAX_TEXT:
        raise _refused("a text would be too long")
    return markupsafe.escape(text)


def _list(value: Any) -> list[Any]:
    if isinstance(value, str) and len(value) > MAX_PIECES:
        raise _refused("a text that is taken apart is too long")
    return list(value)


def _sum(values: Any, attribute: str | None = None, start: float = 0) -> Any:
    numbers = [each if attribute is None else each[attribute] for each in values]
    if not all(isinstance(each, int | float) for each in (start, *numbers)):
        raise _refused("only numbers have a sum")
    return sum(numbers, start)


def _dict(*pairs: Any, **named: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = held(dict(*pairs, **named))
    return found


def _join(value: Any, separator: str = "", attribute: str | None = None) -> str:
    parts = [_text(p if attribute is None else p[attribute]) for p in value]
    _guard_text_method("join", str(separator), (parts,))
    return str(separator).join(parts)


def _tojson(value: Any, indent: int | None = None, **_more: Any) -> str:
    """As Hugging Face's: Unicode as it is, and no escaping for HTML."""
    if indent is not None and not 0 <= int(indent) <= 8:
        raise _refused("that indent is not for templates")
    return json.dumps(held(value), ensure_ascii=False, indent=indent)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise _refused(f"a loop over more than {MAX_RANGE} numbers")
    return numbers


def _raise_exception(message: str) -> None:
    raise TemplateRefused(f"the model's chat template refuses these messages: {message}", remedy="change the messages")


class ChatTemplate:
    """
    >>> ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render([{"role": "user", "content": "Hi"}])
    'Hi'
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", now: Callable[[], datetime] | None = None) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise _refused(f"it has more than {MAX_TEMPLATE_CHARS} characters")
        self.source = source
        self._tokens = {"bos_token": bos, "eos_token": eos}
        clock = now or (lambda: datetime.now(UTC))
        environment = _Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loop_controls, _Generation],
            cache_size=0,
            finalize=_text,
        )
        environment.filters = {n: f for n, f in environment.filters.items() if n in _FILTERS}
        environment.filters |= {"tojson": _tojson, "replace": _replace, "join": _join, "list": _list, "sum": _sum}
        environment.filters |= {"e": _escape, "escape": _escape, "string": _text}
        environment.globals = {
            "range": _range,
            "namespace": environment.globals["namespace"],
            "dict": _dict,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: clock().strftime(str(form)[:64]),
        }
        self._environment = environment
        with time_limit(MAX_SECONDS), _explained():
            self._template = environment.from_string(source)

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        extra: dict[str, Any] | None = None,
    ) -> str:
        """The prompt; raises ``TemplateRefused``."""
        names = {**(extra or {}), **self._tokens, "messages": messages, "add_generation_prompt": add_generation_prompt}
        names["tools"] = tools or None
        pieces: list[str] = []
        size = self._environment.work = 0
        with time_limit(MAX_SECONDS), _explained():
            for piece in self._template.generate(names):
                size += len(piece)
                if size > MAX_TEXT:
                    raise _refused(f"it writes more than {MAX_TEXT} characters")
                pieces.append(piece)
        return "".join(pieces)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TemplateRefused:
        raise
    except jinja2.TemplateError as e:
        raise _refused(str(e)) from e
    except (RecursionError, MemoryError, OverflowError) as e:
        raise _refused(type(e).__name__) from e
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError, IndexError) as e:
        raise _refused(f"it fails on these messages: {e}") from e


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TemplateRefused`` in this thread after ``seconds``; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise _refused(f"it takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _refused(why: str) -> TemplateRefused:
    return TemplateRefused(
        f"the model's chat template is refused: {why}",
        remedy="package the model with another template (hm model package --chat-template)",
    )
