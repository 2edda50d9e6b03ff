"""The shipped and a person's own policies about calls, asked directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.settings import Settings
from policies.authorization import ASKED, Caller, CallPolicies, Thing, builtin_files
from policies.errors import PolicyInvalid

READS = (("read_only", True), ("destructive", False), ("idempotent", False), ("open_world", True))
WRITES = (("read_only", False), ("destructive", True), ("idempotent", False), ("open_world", True))
LOOK, DROP = Thing("Tool", "db", "look", "built", READS), Thing("Tool", "db", "drop", "built", WRITES)


def caller(*scopes: str, **more: Any) -> Caller:
    return Caller("ci", "k", frozenset(scopes), **more)


def with_own(text: str) -> CallPolicies:
    return CallPolicies((*builtin_files(), ("own.cedar", text)))


@pytest.mark.parametrize(
    ("scope", "action", "thing", "allowed"),
    [
        ("call", "call", DROP, True),
        ("call:read-only", "call", LOOK, True),
        ("call:read-only", "call", DROP, False),
        ("list", "call", LOOK, False),
        ("list", "list", LOOK, True),
        ("get", "get", Thing("Prompt", "db", "p"), True),
        ("read", "read", Thing("Resource", "db", "db://x"), True),
        ("call", "read", Thing("Resource", "db", "db://x"), False),
        ("call", "exec", DROP, False),
        ("exec", "exec", DROP, True),
        ("metrics", "call", LOOK, False),
    ],
)
def test_a_scope_allows_what_it_says_and_nothing_else(scope: str, action: str, thing: Thing, allowed: bool) -> None:
    decision = CallPolicies.builtin().decide(caller(scope), action, thing, ASKED)
    assert decision.allowed is allowed
    assert decision.constant
    assert CallPolicies.builtin().could_allow(caller(scope), action, [thing]) == [allowed]


def test_a_caller_of_some_servers_gets_no_other_and_is_told_what_would_help() -> None:
    limited = caller("call", servers=frozenset({"time"}))
    decision = CallPolicies.builtin().decide(limited, "call", LOOK, ASKED)
    assert (decision.allowed, decision.policies) == (False, ["calls.other-server"])
    assert "--server db" in decision.reasons[0].remedy


def test_without_any_policy_that_permits_the_refusal_names_the_scope_that_is_missing() -> None:
    decision = CallPolicies.builtin().decide(caller("list"), "call", LOOK, ASKED)
    assert decision.policies == ["default-deny"]
    assert "call:read-only" in decision.summary


def test_the_operator_may_do_everything_that_nobody_forbids() -> None:
    boss = caller("admin", admin=True)
    assert CallPolicies.builtin().decide(boss, "call", DROP, ASKED).policies == ["calls.operator"]
    own = with_own('@id("own.no-drop") forbid (principal, action, resource == Tool::"db/drop");')
    assert own.decide(boss, "call", DROP, ASKED).policies == ["own.no-drop"]
    assert own.could_allow(boss, "call", [LOOK, DROP, LOOK]) == [True, False, True]


def test_groups_of_a_caller_count() -> None:
    own = with_own('@id("own.ops") permit (principal in Group::"ops", action, resource);')
    assert own.decide(caller(groups=frozenset({"ops"})), "call", DROP, ASKED).allowed
    assert not own.decide(caller(groups=frozenset({"dev"})), "call", DROP, ASKED).allowed


def test_a_policy_about_arguments_is_asked_at_every_call_and_only_where_it_can_have_a_say() -> None:
    own = with_own(
        '@id("own.args") forbid (principal, action == Action::"call", resource == Tool::"db/drop") '
        'when { context.arguments like "*production*" };'
    )
    harmless, harmful = {**ASKED, "arguments": '{"db":"test"}'}, {**ASKED, "arguments": '{"db":"production"}'}
    assert own.decide(caller("call"), "call", DROP, harmless).allowed
    assert not own.decide(caller("call"), "call", DROP, harmful).allowed
    assert not own.decide(caller("call"), "call", DROP, harmless).constant
    assert own.decide(caller("call"), "call", LOOK, harmless).constant
    assert own.could_allow(caller("call"), "call", [DROP]) == [True]


def test_a_permit_that_looks_at_the_request_keeps_a_tool_in_the_list() -> None:
    own = with_own('@id("own.office") permit (principal, action, resource) when { context.hour > 8 };')
    assert own.could_allow(caller(), "call", [DROP]) == [True]
    assert not own.decide(caller(), "call", DROP, {**ASKED, "hour": 3}).allowed
    assert own.decide(caller(), "call", DROP, {**ASKED, "hour": 9}).allowed


def test_a_forbid_with_approval_waits_for_a_person_and_allows_nobody_who_was_not_allowed_before() -> None:
    own = with_own(
        '@id("own.ask") @approval("operator") forbid (principal, action == Action::"call", resource) when { resource.destructive };'
    )
    decision = own.decide(caller("call"), "call", DROP, ASKED)
    assert (decision.allowed, decision.approver, [r.policy for r in decision.approval]) == (
        True,
        "operator",
        ["own.ask"],
    )
    assert not own.decide(caller("list"), "call", DROP, ASKED).allowed
    assert own.decide(caller("call"), "call", LOOK, ASKED).approval == ()


def test_a_policy_that_fails_while_it_is_asked_refuses() -> None:
    own = with_own(
        '@id("own.overflow") forbid (principal, action, resource) when { context.hour * 9223372036854775807 > 1 };'
    )
    decision = own.decide(caller("call"), "call", LOOK, {**ASKED, "hour": 9})
    assert (decision.allowed, decision.policies) == (False, ["policy-error"])


@pytest.mark.parametrize(
    "text",
    [
        "permit (principal, action, resource);",
        '@id("x") permit (principal, action, resource) when { context.hours > 1 };',
        '@id("x") permit (principal, action == Action::"run", resource);',
        '@id("x") @approval("client") permit (principal, action, resource);',
        '@id("x") @approval("anyone") forbid (principal, action, resource);',
        '@id("calls.operator") permit (principal, action, resource);',
    ],
)
def test_policies_that_cannot_mean_what_they_say_are_refused(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        with_own(text)


def test_names_no_policy_language_has_words_for_are_decided_too() -> None:
    odd = Thing("Tool", 'a"\\', "\n\u202e\"'", "built", WRITES)
    assert CallPolicies.builtin().decide(caller("call"), "call", odd, ASKED).allowed


def test_a_person_s_own_policies_are_read_from_their_folder(settings: Settings, tmp_path: Path) -> None:
    folder = settings.home / "policies" / "calls"
    folder.mkdir(parents=True)
    (folder / "mine.cedar").write_text('@id("mine") forbid (principal, action, resource);')
    assert not CallPolicies.load(settings).decide(caller("call"), "call", LOOK, ASKED).allowed
