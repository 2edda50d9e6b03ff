"""Verdicts are asked for again before they expire, beside the calls."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from gateway.admission import Admissions, _key
from gateway.errors import ServerChanged
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


async def test_calls_that_come_together_after_a_verdict_ended_ask_once() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    waiting = [asyncio.create_task(admissions.check(ALPHA)) for _ in range(8)]
    await until(lambda: asked.times > 0)
    await asyncio.sleep(0)
    admissions.expect(ALPHA, asyncio.get_running_loop().time())
    waiting += [asyncio.create_task(admissions.check(ALPHA)) for _ in range(8)]
    await asyncio.sleep(0)
    asked.open.set()
    assert {each.image for each in await asyncio.gather(*waiting)} == {ALPHA.image}
    await admissions.close()
    assert asked.times == 1


async def test_a_call_joins_the_question_that_was_asked_early() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    admissions.expect(ALPHA, asyncio.get_running_loop().time())
    waiting = asyncio.create_task(admissions.check(ALPHA))
    await until(lambda: asked.times > 0)
    await asyncio.sleep(0)
    asked.open.set()
    await waiting
    await admissions.close()
    assert asked.times == 1


async def test_a_caller_that_gives_up_leaves_the_question_to_the_others() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    first, second = (asyncio.create_task(admissions.check(ALPHA)) for _ in range(2))
    await until(lambda: asked.times > 0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    asked.open.set()
    assert (await second).image == ALPHA.image
    assert asked.times == 1


async def test_a_no_reaches_all_who_wait_for_it_and_ends_the_yes_before_it() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    await admissions.check(ALPHA)
    now = asyncio.get_running_loop().time()
    asked.refuse = True
    asked.open.clear()
    admissions.fresh(ALPHA, now + LIMITS.admission_recheck_s - 1)  # renewed early, while the yes still stands
    admissions._fresh.clear()  # what five more seconds do
    waiting = [asyncio.create_task(admissions.check(ALPHA)) for _ in range(8)]
    await until(lambda: asked.times == 2)
    await asyncio.sleep(0)
    admissions._fresh[_key(ALPHA)] = (now + LIMITS.admission_recheck_s, object())
    asked.open.set()
    heard = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in heard] == [Denied] * 8
    assert asked.times == 2
    assert not admissions.fresh(ALPHA, now)


async def test_an_image_that_changed_is_told_to_all_who_wait() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    other = locked("alpha", image="sha256:" + "0" * 64)
    waiting = [asyncio.create_task(admissions.check(server)) for server in (other, other, ALPHA)]
    await until(lambda: asked.times == 2)
    asked.open.set()
    heard = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in heard] == [ServerChanged, ServerChanged, Admitted]


async def test_a_question_from_before_a_change_is_not_joined_after_it() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    before = asyncio.create_task(admissions.check(ALPHA))
    await until(lambda: asked.times == 1)
    admissions.forget()
    asked.refuse = True
    after = asyncio.create_task(admissions.check(ALPHA))
    await until(lambda: asked.times == 2)
    asked.open.set()
    await asyncio.wait([before, after])
    with pytest.raises(Denied):
        await after


async def test_closing_waits_for_questions_from_before_and_after_a_change() -> None:
    asked = Asked()
    admissions = Admissions(asked)
    asked.open.clear()
    admissions.expect(ALPHA, asyncio.get_running_loop().time())
    await until(lambda: asked.times == 1)
    admissions.forget()
    admissions.expect(ALPHA, asyncio.get_running_loop().time())
    await until(lambda: asked.times == 2)
    closing = asyncio.create_task(admissions.close())
    await asyncio.sleep(0)
    assert not closing.done()
    asked.open.set()
    await closing
    assert admissions._asking == {}


async def test_a_no_that_nobody_waited_for_leaves_no_warning() -> None:
    loop, said = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: said.append(context))
    asked = Asked()
    asked.refuse = True
    admissions = Admissions(asked)
    admissions.expect(ALPHA, loop.time())
    lone = asyncio.create_task(admissions.check(ALPHA))
    await asyncio.sleep(0)
    lone.cancel()
    await admissions.close()
    await asyncio.wait([lone])
    gc.collect()
    assert said == []


def test_what_a_name_stands_for_follows_the_lock(settings: Settings) -> None:
    targets = Targets(settings)
    assert targets("time").locked == ""
    assert targets("time") is targets("time")
    write_lock(settings.lock_file, {"time": locked("time")})
    assert targets("time").locked == locked("time").image
    write_lock(settings.lock_file, {})
    assert targets("time").locked == ""
