"""Some of a set's Cedar policies, parsed once and asked together; and what a policy looks at, by its parsed form.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import cedarpy

from policies.policy_set import Policy


class Subset:
    """Some of the policies, parsed once, asked together."""

    def __init__(self, chosen: Iterable[tuple[Policy, dict[str, Any]]]) -> None:
        pairs = list(chosen)
        self._by_id = {policy.id: policy for policy, _ in pairs}
        self._approvers = {policy.id: body["annotations"].get("approval") for policy, body in pairs}
        static = {f"p{position}": body for position, (_, body) in enumerate(pairs)}
        text = cedarpy.policies_from_json_str(
            json.dumps({"templates": {}, "staticPolicies": static, "templateLinks": []})
        )
        self._parsed = cedarpy.PolicySet.from_str(text)

    def evaluate(self, asked: dict[str, Any], known: Any) -> tuple[bool, tuple[Policy, ...], tuple[str, ...]]:
        """(allowed, deciding policies, errors); an error refuses: Cedar would skip a ``forbid`` that fails."""
        answer = cedarpy.is_authorized(asked, self._parsed, known)
        return answer.allowed, self._named(answer), tuple(str(error) for error in answer.diagnostics.errors)

    def evaluate_all(self, asked: list[dict[str, Any]], known: Any) -> list[tuple[bool, bool]]:
        """Of each request: (allowed, forbidden by a policy)."""
        answers = cedarpy.is_authorized_batch(asked, self._parsed, known)
        return [
            (a.allowed and not a.diagnostics.errors, not a.allowed and bool(a.diagnostics.reasons)) for a in answers
        ]

    def matching(self, asked: dict[str, Any], known: Any) -> bool:
        return bool(self._by_id) and bool(cedarpy.is_authorized(asked, self._parsed, known).diagnostics.reasons)

    def matching_policies(self, asked: dict[str, Any], known: Any) -> tuple[list[tuple[Policy, str]], tuple[str, ...]]:
        """For a subset of one effect: the policies that hold, with who may approve; and errors."""
        if not self._by_id:
            return [], ()
        answer = cedarpy.is_authorized(asked, self._parsed, known)
        found = [(policy, str(self._approvers[policy.id] or "")) for policy in self._named(answer)]
        return found, tuple(str(error) for error in answer.diagnostics.errors)

    def conditional_permits(self, asked: list[dict[str, Any]], known: Any) -> list[bool]:
        """Of each request: whether a policy of effect ``permit`` among these could match."""
        if not any(policy.effect == "permit" for policy in self._by_id.values()):
            return [False] * len(asked)
        answers = cedarpy.is_authorized_batch(asked, self._parsed, known)
        return [any(policy.effect == "permit" for policy in self._named(answer)) for answer in answers]

    def _named(self, answer: Any) -> tuple[Policy, ...]:
        ids = answer.diagnostics.id_annotations_by_reason
        return tuple(self._by_id[ids[reason]] for reason in sorted(answer.diagnostics.reasons))


def asks_name(value: Any) -> bool:
    """Whether a policy can tell two things of one server apart that are annotated alike."""
    if isinstance(value, list):
        return any(asks_name(each) for each in value)
    if not isinstance(value, dict):
        return False
    access = value.get(".")
    if isinstance(access, dict) and access.get("left") == {"Var": "resource"}:
        return bool(access.get("attr") == "name")
    scope = value.get("resource")
    if isinstance(scope, dict) and scope.get("op") == "==":
        return True
    return value.get("Var") == "resource" or any(asks_name(each) for each in value.values())


def asks_server(value: Any) -> bool:
    """Whether a policy can tell servers apart: by attribute, by scope, or by an entity in its conditions."""
    if isinstance(value, list):
        return any(asks_server(each) for each in value)
    if not isinstance(value, dict):
        return False
    if value.get("attr") == "server" or value.get("type") == "McpServer":
        return True
    return any(asks_server(each) for each in value.values())


def asks_context(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("Var") == "context" or any(asks_context(each) for each in value.values())
    return isinstance(value, list) and any(asks_context(each) for each in value)
