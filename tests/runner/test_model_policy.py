"""Which model goes for which, and who is next."""

from __future__ import annotations

from runner.scheduler.policy import (
    FOREVER,
    RESERVE,
    Evict,
    Load,
    Loaded,
    Never,
    Wait,
    decide,
    expired,
    fair_order,
    next_expiry,
)

MIB = 1 << 20


def loaded(name: str, size: int, *, active: int = 0, last: float = 0.0, **more: object) -> Loaded:
    return Loaded(name, name, size, active, last, **more)  # type: ignore[arg-type]


def test_what_fits_is_loaded() -> None:
    assert decide("new", 100 * MIB, 100 * MIB + RESERVE, [], most=8) == Load()


def test_the_longest_unused_goes_first_and_no_more_than_needed() -> None:
    models = [loaded("a", 50 * MIB, last=3), loaded("b", 50 * MIB, last=1), loaded("c", 50 * MIB, last=2)]
    decision = decide("new", 90 * MIB, RESERVE, models, most=8)
    assert isinstance(decision, Evict)
    assert decision.keys == ("b", "c")
    assert "new needs 90 MiB" in decision.why


def test_busy_and_pinned_models_stay() -> None:
    models = [loaded("busy", 100 * MIB, active=2), loaded("pin", 50 * MIB, pinned=True)]
    decision = decide("new", 90 * MIB, RESERVE, models, most=8)
    assert isinstance(decision, Wait)
    assert "busy (2 requests)" in decision.why
    assert "pin (pinned)" in decision.why


def test_what_cannot_fit_even_alone_is_refused_at_once() -> None:
    decision = decide("huge", 900 * MIB, 100 * MIB + RESERVE, [loaded("a", 50 * MIB)], most=8)
    assert isinstance(decision, Never)
    assert "huge needs 900 MiB" in decision.why


def test_a_pin_that_leaves_no_room_is_named() -> None:
    decision = decide("new", 100 * MIB, RESERVE, [loaded("a", 200 * MIB, pinned=True)], most=8)
    assert isinstance(decision, Never)
    assert "pinned a" in decision.why


def test_what_is_loading_has_its_memory_promised() -> None:
    models = [loaded("a", 80 * MIB, loading=True)]
    assert isinstance(decide("new", 50 * MIB, 100 * MIB + RESERVE, models, most=8), Wait)
    assert decide("new", 20 * MIB, 100 * MIB + RESERVE, models, most=8) == Load()


def test_a_number_of_models_is_a_limit_too() -> None:
    models = [loaded("a", MIB, last=2), loaded("b", MIB, last=1)]
    decision = decide("new", MIB, 1 << 40, models, most=2)
    assert isinstance(decision, Evict)
    assert decision.keys == ("b",)


def test_idle_models_expire_unless_kept_pinned_or_busy() -> None:
    models = [
        loaded("old", MIB, last=0.0),
        loaded("young", MIB, last=200.0),
        loaded("kept", MIB, last=0.0, keep_alive=FOREVER),
        loaded("pinned", MIB, last=0.0, pinned=True),
        loaded("busy", MIB, last=0.0, active=1),
    ]
    assert expired(models, 300.0) == ["old"]
    assert next_expiry(models[1:]) == 500.0
    assert next_expiry(models[2:]) is None


def test_a_client_with_many_requests_does_not_keep_others_waiting() -> None:
    waiting = [("greedy", 1.0), ("greedy", 2.0), ("greedy", 3.0), ("modest", 4.0)]
    assert fair_order(waiting) == [0, 3, 1, 2]
