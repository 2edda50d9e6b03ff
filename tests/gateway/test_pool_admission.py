"""Verdicts are asked for again before they expire, beside the calls."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.admission import Admissions
from gateway.limits import LIMITS
from gateway.lock import write_lock
from harbourmaster.compose import Targets
from harbourmaster.core.errors import RefusedError
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Admitted, locked, until

ALPHA = locked("alpha")


class Denied(RefusedError):
    code = "admission.denied"


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.refuse = False
        self.open = threading.Event()
        self.open.set()

    def __call__(self, name: str) -> Admitted:
        self.times += 1
        self.open.wait(60)
        if self.refuse:
            raise Denied("no longer")
        return Admitted(ALPHA.image, ALPHA.image_id)


async def test_a_verdict_near_its_end_is_renewed_and_no_call_waits() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    await admissions.check(ALPHA)
    now = asyncio.get_running_loop().time()
    assert admissions.fresh(ALPHA, now)
    assert asked.times == 1, "it is fresh enough"
    for _ in range(3):
        assert admissions.fresh(ALPHA, now + LIMITS.admission_recheck_s - 1), "it still stands"
    await until(lambda: asked.times == 2)
    await admissions.close()
    assert asked.times == 2, "one question for all of them"
    assert not admissions.fresh(ALPHA, now + 2 * LIMITS.admission_recheck_s + 1), "no verdict outlives its time"


async def test_a_no_counts_at_once_though_the_yes_before_it_had_time_left() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    await admissions.check(ALPHA)
    asked.refuse = True
    now = asyncio.get_running_loop().time()
    admissions.fresh(ALPHA, now + LIMITS.admission_recheck_s - 1)
    await admissions.close()
    assert not admissions.fresh(ALPHA, now)
    with pytest.raises(Denied):
        await admissions.check(ALPHA)


async def test_an_answer_from_before_a_change_is_not_remembered() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    await admissions.check(ALPHA)
    now = asyncio.get_running_loop().time()
    asked.open.clear()
    admissions.fresh(ALPHA, now + LIMITS.admission_recheck_s - 1)
    await until(lambda: asked.times == 2)
    admissions.forget()
    asked.open.set()
    await admissions.close()
    assert not admissions.fresh(ALPHA, now)


def test_what_a_name_stands_for_follows_the_lock(settings: Settings) -> None:
    targets = Targets(settings)
    assert targets("time").locked == ""
    assert targets("time") is targets("time")
    write_lock(settings.lock_file, {"time": locked("time")})
    assert targets("time").locked == locked("time").image
    write_lock(settings.lock_file, {})
    assert targets("time").locked == ""
