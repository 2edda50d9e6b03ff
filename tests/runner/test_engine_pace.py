"""A step of llama.cpp that never ends ends its process; one that is only long does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.engine import pace
from runner.engine.client import EngineProcess
from runner.engine.pace import Pace
from runner.engine.spec import EngineSpec
from runner.errors import EngineDied

HANGS = """
import sys, threading
if "runner.engine" in sys.orig_argv:
    import runner.engine.__main__ as engine, runner.engine.pace as pace
    from runner.engine.context import Context
    sys.modules["runner.engine.__main__"] = engine
    pace.FIRST_S = 0.2
    engine.WATCH_S = 0.05
    Context.decode = lambda self: threading.Event().wait()
    sys.exit(engine.main())
"""


def test_a_long_step_is_given_time_by_what_tokens_took_before() -> None:
    p = Pace()
    assert p.stuck(1e9) == ""  # nothing is under way
    p.begin(1, 100.0)
    assert p.stuck(100.0 + pace.FIRST_S) == ""
    assert p.end(104.0) == 4.0
    assert p.stuck(1e9) == ""
    p.begin(128, 200.0)
    assert p.stuck(200.0 + 128 * 4 * pace.TIMES) == ""
    assert "128 tokens" in p.stuck(201.0 + 128 * 4 * pace.TIMES)


def test_quick_steps_do_not_make_it_hasty() -> None:
    p = Pace()
    p.begin(64, 1.0)
    p.end(1.001)
    p.begin(64, 2.0)
    assert p.stuck(2.0 + pace.LONG_S) == ""
    assert "llama.cpp hangs" in p.stuck(2.1 + pace.LONG_S)


def test_the_slowest_token_is_remembered() -> None:
    p = Pace()
    for took in (10.0, 0.01, 0.02):
        p.begin(1, 50.0)
        p.end(50.0 + took)
    assert p.slowest == 10.0


async def test_requests_in_a_step_that_hangs_get_an_error(
    engine_installed: None, smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    monkeypatch.syspath_prepend(str(tmp_path))
    gone: list[bool] = []
    engine = await EngineProcess.start(
        EngineSpec("smollm2", (str(smollm2),), threads=1), on_exit=lambda: gone.append(True)
    )
    try:
        with pytest.raises(EngineDied, match="has not come back within"):
            async for _ in engine.stream({"op": "generate", "prompt": "One, two,", "options": {"max_tokens": 4}}):
                pass
    finally:
        await engine.stop()
    assert gone == [True]
    assert not engine.alive
