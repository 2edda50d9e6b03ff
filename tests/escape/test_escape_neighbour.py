"""A well-behaved server beside a hostile one is answered as ever."""

from __future__ import annotations

import pytest

from tests.escape.conftest import Neighbour, Note

pytestmark = [pytest.mark.engine, pytest.mark.after_all]

FACTOR = 2  # of its usual median
BUSY = 10  # where the machine had more to do than it has cores before any of this began: an alarm, no measurement


def test_a_well_behaved_server_beside_it_answers_all_the_while(neighbour: Neighbour, note: Note) -> None:
    median, worst, calls = neighbour.finish()
    ratio = median / neighbour.usual_ms
    factor = BUSY if neighbour.busy else FACTOR
    observed = f"{ratio:.2f} x its usual {neighbour.usual_ms:.1f} ms over {calls} calls, worst {worst:.0f} ms (at most {factor})"
    note("a well-behaved server beside all of this", "CPU, memory and process limits per server", observed)
    assert calls > 20
    assert ratio < factor, observed
