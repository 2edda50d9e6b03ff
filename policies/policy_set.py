"""Cedar policies: read, validated against the schema, parsed once and kept.

Ours are in ``policies/cedar``; a person's own are ``HM_HOME/policies/*.cedar``.  Every policy has an ``@id`` of its own,
because verdicts, the audit and error messages name it; ``@reason`` says why it decides, ``@remedy`` what would change it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cedarpy

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.settings import Settings
from policies.errors import PolicyInvalid

MAX_FILE_BYTES = 1 << 20
NO_ENTITIES = cedarpy.Entities.from_json_str("[]")


@dataclass(frozen=True)
class Policy:
    """One Cedar policy; ``cedar_id`` is what the engine calls it, ``id`` its ``@id``."""

    id: str
    effect: str
    reason: str
    remedy: str
    source: str
    cedar_id: str


class PolicySet:
    """Immutable; ``digest`` covers every file's bytes and the schema's, and is part of every cached verdict's key."""

    def __init__(self, files: Iterable[tuple[str, str]], schema: str) -> None:
        """``files``: (name for messages, Cedar text).  Raises ``PolicyInvalid``."""
        self.files = tuple(files)
        self.schema = cedarpy.Schema.from_str(schema)
        for name, text in self.files:
            _validate(name, text, self.schema)
        self._parsed = cedarpy.PolicySet.from_str(_joined(self.files))
        self.policies = _policies(self.files)
        self._by_cedar_id = {policy.cedar_id: policy for policy in self.policies}
        self.digest = canonical_digest({"schema": schema, "files": [list(file) for file in self.files]})

    @classmethod
    def load(cls, settings: Settings) -> PolicySet:
        """Ours, then those in ``HM_HOME/policies``; raises ``PolicyInvalid`` naming the file."""
        return cls((*builtin_files(), *own_files(settings.home / "policies")), builtin_schema())

    @classmethod
    def builtin(cls) -> PolicySet:
        return cls(builtin_files(), builtin_schema())

    def get(self, policy_id: str) -> Policy | None:
        return next((policy for policy in self.policies if policy.id == policy_id), None)

    def evaluate(self, request: dict[str, Any]) -> tuple[bool, tuple[Policy, ...], tuple[str, ...]]:
        """(allowed, deciding policies, evaluation errors).  Any evaluation error denies: Cedar itself would skip a
        ``forbid`` that fails, and so let through what it was written against."""
        answer = cedarpy.is_authorized(request, self._parsed, NO_ENTITIES, schema=self.schema)
        errors = tuple(str(error) for error in answer.diagnostics.errors)
        deciding = tuple(self._by_cedar_id[reason] for reason in sorted(answer.diagnostics.reasons))
        return answer.allowed and not errors, deciding, errors


def builtin_files() -> tuple[tuple[str, str], ...]:
    folder = resources.files("policies").joinpath("cedar")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".cedar"))
    return tuple((f"policies/cedar/{name}", folder.joinpath(name).read_text()) for name in names)


def builtin_schema() -> str:
    return resources.files("policies").joinpath("cedar", "admission.cedarschema").read_text()


def own_files(folder: Path) -> tuple[tuple[str, str], ...]:
    """Cedar files of the person's own; none where the folder is missing."""
    found = []
    for path in sorted(folder.glob("*.cedar")):
        try:
            raw = path.read_bytes()
            if len(raw) > MAX_FILE_BYTES:
                raise _invalid(str(path), f"it has {len(raw)} bytes; the limit is {MAX_FILE_BYTES}")
            found.append((str(path), raw.decode("utf-8")))
        except (OSError, UnicodeDecodeError) as e:
            raise _invalid(str(path), str(e)) from e
    return tuple(found)


def _joined(files: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(text for _, text in files)


def _validate(name: str, text: str, schema: cedarpy.Schema) -> None:
    try:
        result = cedarpy.validate_policies(text, schema)
    except ValueError as e:
        raise _invalid(name, str(e)) from e
    if not result.validation_passed:
        raise _invalid(name, "; ".join(str(error.error) for error in result.errors))


def _policies(files: tuple[tuple[str, str], ...]) -> tuple[Policy, ...]:
    """In file order, which is the order of the engine's positional ids in the joined text."""
    found: list[Policy] = []
    for name, text in files:
        body = json.loads(cedarpy.policies_to_json_str(text))
        if body["templates"]:
            raise _invalid(name, "templates (?principal, ?resource) decide nothing here; write plain policies")
        static = body["staticPolicies"]
        for position in range(len(static)):
            found.append(_policy(name, static[f"policy{position}"], len(found)))
    ids = [policy.id for policy in found]
    for policy in found:
        if ids.count(policy.id) > 1:
            files_with = ", ".join(sorted({p.source for p in found if p.id == policy.id}))
            raise _invalid(files_with, f'two policies have the id "{policy.id}"')
    return tuple(found)


def _policy(name: str, body: dict[str, Any], position: int) -> Policy:
    notes = body.get("annotations", {})
    if not notes.get("id"):
        raise _invalid(name, f'a {body["effect"]} policy has no @id("...") annotation')
    return Policy(
        id=notes["id"],
        effect=body["effect"],
        reason=notes.get("reason") or f"policy {notes['id']} says so",
        remedy=notes.get("remedy") or f"change the policy {notes['id']} in {name}",
        source=name,
        cedar_id=f"policy{position}",
    )


def _invalid(name: str, why: str) -> PolicyInvalid:
    return PolicyInvalid(
        f"{name} is refused: {why}",
        remedy=f"correct or remove {name} (hm policy check); until then nothing is admitted",
        file=name,
    )
