"""Chat templates come with models, from strangers: Jinja2 in a sandbox with limits on output, operands and time.

The time limit needs the main thread (it is a signal), which is where the engine's process renders.  Known escapes of
limits are closed one by one: ``range``, multiplication and power of texts, padding filters and methods, formats with a
width, ``replace`` and ``join`` that grow.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as loop_controls
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.errors import TemplateRefused

MAX_TEMPLATE_CHARS = 512 << 10  # the longest published ones are below 60,000
MAX_TEXT = 32 << 20  # characters of one text or of the whole prompt
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


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

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
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, jinja2.runtime.Context | jinja2.Environment):
            return False
        if callable(value) and isinstance(obj, str | bytes | list | tuple | dict | datetime):
            return attr in _METHODS
        return super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            _guard_text_method(getattr(obj, "__name__", ""), owner, args)
        return super().call(context, obj, *args, **kwargs)


def _guard_text_method(name: str, text: str, args: tuple[Any, ...]) -> None:
    if name == "replace" and len(args) >= 2 and all(isinstance(a, str) for a in args[:2]):
        _guard_replace(text, args[0], args[1])
    elif name == "join" and args:
        parts = list(args[0])
        if sum(len(str(p)) for p in parts) + len(text) * len(parts) > MAX_TEXT:
            raise _refused("a text would be too long")


def _guard_replace(text: str, old: str, new: str) -> None:
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise _refused("a text would be too long")


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    _guard_replace(str(text), str(old), str(new))
    return str(text).replace(str(old), str(new), count)


def _join(value: Any, separator: str = "", attribute: str | None = None) -> str:
    parts = [str(p if attribute is None else p[attribute]) for p in value]
    _guard_text_method("join", str(separator), (parts,))
    return str(separator).join(parts)


def _tojson(value: Any, indent: int | None = None, **_more: Any) -> str:
    """As Hugging Face's: Unicode as it is, and no escaping for HTML."""
    if indent is not None and not 0 <= int(indent) <= 8:
        raise _refused("that indent is not for templates")
    return json.dumps(value, ensure_ascii=False, indent=indent)


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
            trim_blocks=True, lstrip_blocks=True, extensions=[loop_controls, _Generation], cache_size=0
        )
        environment.filters = {n: f for n, f in environment.filters.items() if n in _FILTERS}
        environment.filters |= {"tojson": _tojson, "replace": _replace, "join": _join}
        environment.globals = {
            "range": _range,
            "namespace": environment.globals["namespace"],
            "dict": dict,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: clock().strftime(str(form)[:64]),
        }
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
        size = 0
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
