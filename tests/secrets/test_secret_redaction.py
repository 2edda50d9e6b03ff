"""What is replaced, in which spelling, and where a text was cut."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.errors import wire_error
from harbourmaster.core import redaction
from harbourmaster.core.errors import EngineError
from harbourmaster.core.logs import JsonFormatter, LineFormatter
from harbourmaster.core.redaction import IN_USE, MAX_VALUES, Redactor, without_cut_ends
from sandbox.text import STDERR_KEPT, Tail, secret_values
from tests.secrets.conftest import CANARY


@pytest.fixture(autouse=True)
def nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_values", "_pattern"):
        monkeypatch.setattr(IN_USE, name, {} if name == "_values" else None)


@pytest.mark.parametrize(
    "spell",
    [
        str,
        json.dumps,
        lambda v: json.dumps(v, ensure_ascii=False),
        lambda v: quote(v, safe=""),
        lambda v: base64.b64encode(v.encode()).decode(),
    ],
    ids=["plain", "JSON", "JSON in UTF-8", "percent", "base64"],
)
def test_a_value_is_replaced_in_each_common_spelling(spell: object) -> None:
    redactor = Redactor()
    redactor.add([CANARY])
    assert "cnry" not in redactor.redact(f"<{spell(CANARY)}>")  # type: ignore[operator]
    assert "[redacted]" in redactor.redact(f"<{spell(CANARY)}>")  # type: ignore[operator]


def test_a_secret_inside_another_leaves_no_rest() -> None:
    redactor = Redactor()
    redactor.add(["abcd", "abcdefgh"])
    assert redactor.redact("abcdefgh abcd") == "[redacted] [redacted]"


def test_the_lines_of_a_key_are_replaced_one_by_one() -> None:
    redactor = Redactor()
    redactor.add(["-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END KEY-----"])
    assert redactor.redact("line 2 is MIIEvQIBADANBgkqhkiG9w0") == "line 2 is [redacted]"


def test_short_values_would_blank_out_ordinary_words_and_are_left() -> None:
    redactor = Redactor()
    redactor.add(["abc"])
    assert redactor.redact("abc") == "abc"


def test_what_is_remembered_is_bounded_to_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_VALUES >= 1000
    monkeypatch.setattr(redaction, "MAX_VALUES", 3)
    redactor = Redactor()
    for n in range(5):
        redactor.add([f"value-{n}"])
    assert redactor.redact("value-1 value-2 value-4") == "value-1 [redacted] [redacted]"


@pytest.mark.parametrize("formatter", [LineFormatter("%(message)s"), JsonFormatter()])
def test_logs_redact_arguments_and_tracebacks(formatter: logging.Formatter) -> None:
    IN_USE.add(["canary-value"])
    try:
        raise ValueError("canary-value in an exception")
    except ValueError as e:
        record = logging.LogRecord("x", 40, "", 0, "%s", ("canary-value",), (ValueError, e, e.__traceback__))
    text = formatter.format(record)
    assert "canary" not in text
    assert text.count("[redacted]") >= 2


def test_errors_to_clients_are_redacted() -> None:
    IN_USE.add(["canary-value"])
    assert wire_error(EngineError("the engine quotes canary-value"))["message"] == "the engine quotes [redacted]"


def test_a_tail_that_begins_or_ends_inside_a_secret_shows_no_piece_of_it() -> None:
    secret = "canary-0123456789"
    known = secret_values([], frozenset(), [secret])
    tail = Tail()
    filler = "x" * (STDERR_KEPT - 5)
    tail.feed(f"{'y' * STDERR_KEPT}{secret}{filler}".encode())
    assert "56789" not in tail.text(known)
    tail = Tail()
    tail.feed(f"so far {secret[:9]}".encode())
    assert tail.text(known) == "so far [redacted]"


def test_ends_that_were_not_cut_are_left() -> None:
    assert without_cut_ends("6789 text canary", ["canary-0123456789"], head=False, tail=False) == "6789 text canary"
    assert without_cut_ends("text", ["canary"], head=True, tail=True) == "text"


def test_the_audit_has_no_field_for_a_value(tmp_path: Path) -> None:
    """Its records are names, digests and codes; a delivery is not even accepted."""
    from harbourmaster.core.audit import AuditLog, AuditRecordInvalid
    from harbourmaster.core.secrets import Delivery

    log = AuditLog(tmp_path)
    with pytest.raises(AuditRecordInvalid):
        log.append({"kind": "sandbox", "delivery": Delivery(env={"T": "canary"})})
    log.close()
