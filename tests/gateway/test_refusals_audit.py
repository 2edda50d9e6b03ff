"""Requests that are turned away at the HTTP edge are in the audit, summed up, and never with what was sent as a token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.gateway import Gateway
from gateway.refusals import KINDS, SPAN_S, Refusals, refused
from harbourmaster.core.audit_chain import checked
from harbourmaster.core.settings import Settings
from tests.gateway.harness import Http, World, rpc, serving
from tests.gateway.test_profiles_http import write

INIT = rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})


def refusals(world: World) -> list[dict[str, Any]]:
    return [r for r in world.records if r["kind"] == "refusal"]


async def test_missing_and_wrong_tokens_are_recorded_without_the_token(http: Http, world: World) -> None:
    await http.request(body=INIT, Authorization=None)
    await http.request(body=INIT, Authorization="Bearer hm_stolen-and-wrong")
    missing, wrong = refusals(world)
    assert missing == {
        "kind": "refusal",
        "event": "refused",
        "code": "auth.missing",
        "status": 401,
        "count": 1,
        "peer": "127.0.0.1",
        "door": "/mcp",
    }
    assert wrong["code"] == "auth.invalid"
    assert "stolen" not in json.dumps(world.records)


@pytest.mark.parametrize(
    ("headers", "code", "more"),
    [
        ({"Host": "evil.example:8811"}, "http.wrong_host", {"status": 421, "host": "evil.example:8811"}),
        ({"Origin": "https://evil.example"}, "http.wrong_origin", {"status": 403, "origin": "https://evil.example"}),
        ({"Host": "hm_a-token_in-its-place"}, "http.wrong_host", {"status": 421, "host": "(unusual)"}),
    ],
)
async def test_a_host_or_origin_that_is_not_ours_is_recorded(
    http: Http, world: World, headers: dict[str, str], code: str, more: dict[str, Any]
) -> None:
    await http.request(body=INIT, **headers)
    [record] = refusals(world)
    assert record["code"] == code
    assert more.items() <= record.items()


async def test_a_good_token_in_the_wrong_place_is_recorded_with_whose_it_is(settings: Settings, world: World) -> None:
    write(settings, "work", {"servers": {"alpha": None}})
    async with serving(settings, world) as (gateway, http):
        token = gateway.tokens.create("laptop", profiles=["home"])
        session = await http.initialize()
        await http.at("work", token).request(body=INIT)
        await http.at("hm_not-a-name", token).request(body=INIT)
        other = http.at("work", gateway.tokens.create("other", profiles=["work"]))
        await other.request(body=rpc("ping"), Mcp_Session_Id=session)
        await other.request("GET", "/admin/status")
        await other.request("GET", "/metrics")
        found = [(r["code"], r.get("principal"), r["door"], r.get("profile")) for r in refusals(world)]
        assert found == [
            ("profile.forbidden", "laptop", "/mcp", "work"),
            ("profile.forbidden", "laptop", "/mcp", "(unusual)"),
            ("session.unknown", "other", "/mcp", "work"),
            ("admin.scope", "other", "/admin", None),
            ("metrics.scope", "other", "/metrics", None),
        ]
        assert session not in json.dumps(world.records)


async def test_mistakes_of_form_are_nobody_s_attempt(http: Http, world: World) -> None:
    for changes in ({"Content_Type": "text/plain"}, {"Accept": "text/html"}):
        await http.request(body=INIT, **changes)
    await http.request("PUT", body=INIT)
    await http.request(path="/nowhere", body=INIT)
    assert refusals(world) == []


async def test_what_follows_is_counted_and_told_at_the_latest_when_the_gateway_stops(
    settings: Settings, world: World
) -> None:
    async with serving(settings, world) as (_, http):
        for _ in range(5):
            await http.request(body=INIT, Authorization="Bearer wrong")
        assert [r["count"] for r in refusals(world)] == [1]
    assert [(r["event"], r["count"]) for r in refusals(world)] == [("refused", 1), ("repeated", 4)]
    assert world.records[-1]["event"] == "stop"


async def test_refusals_are_answered_while_the_audit_cannot_be_written(http: Http, world: World) -> None:
    from harbourmaster.core.audit import AuditUnavailable

    world.audit_error = AuditUnavailable("full")
    assert (await http.request(body=INIT, Authorization=None)).status == 401
    world.audit_error = None


async def test_a_session_s_end_and_a_refusal_do_not_disturb_the_sweep(http: Http, gateway: Gateway) -> None:
    await http.request(body=INIT, Authorization=None)
    gateway.refusals.sweep(float("inf"))
    assert (await http.request(body=INIT)).status == 200


# -- the arithmetic


def stranger(number: int, code: str = "auth.invalid") -> Any:
    found = refused(401, code, "/mcp", f"192.0.2.{number}")
    assert found is not None
    return found


def test_a_flood_from_many_addresses_is_a_handful_of_records() -> None:
    records: list[dict[str, Any]] = []
    book = Refusals(records.append)
    for number in range(100_000):
        book.note(stranger(number), number / 100_000)
    assert len(records) == KINDS + 1  # and one for all that is over
    book.sweep(SPAN_S * 2)
    assert len(records) == KINDS + 2
    assert (records[-1]["event"], records[-1]["count"], "peer" in records[-1]) == (
        "repeated",
        100_000 - KINDS - 1,
        False,
    )
    assert sum(r["count"] for r in records) == 100_000
    for record in records:
        checked(record)  # as the audit takes it


def test_a_kind_that_goes_on_is_one_record_a_minute_and_one_that_stopped_begins_anew() -> None:
    records: list[dict[str, Any]] = []
    book = Refusals(records.append)
    for second in range(180):
        book.note(stranger(1), float(second))
        book.sweep(float(second))
    assert [r["count"] for r in records] == [1, 60, 60]
    book.sweep(240.0)
    book.sweep(300.0)
    book.note(stranger(1), 301.0)
    assert [(r["event"], r["count"]) for r in records[3:]] == [("repeated", 59), ("refused", 1)]


def test_nothing_that_a_stranger_writes_gets_into_the_record_but_what_looks_like_a_host() -> None:
    odd = refused(421, "http.wrong_host", "/mcp/\x1b[2J", "192.0.2.1", host="a\x1b]0;x", origin="https://x")
    assert odd is not None
    assert (odd.host, odd.profile, odd.origin) == ("(unusual)", "(unusual)", "")
    assert refused(404, "http.not_found", "/x", "192.0.2.1") is None
