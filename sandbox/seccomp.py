"""Render ``policies/seccomp/<name>.yaml`` (grouped, with reasons) as the JSON that engines load.

The JSON is the profile format of Docker and Podman (github.com/moby/profiles, seccomp.json).  ``python -m sandbox.seccomp``
writes it; nothing at run time reads the YAML.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import policies
from harbourmaster.core.files import write_atomic
from sandbox.errors import ProfileInvalid

SECCOMP_DIR = Path(policies.__file__).parent / "seccomp"
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}  # libseccomp's names, seccomp.h
EPERM, ENOSYS = 1, 38  # asm-generic/errno-base.h, errno.h


def render(source: dict[str, Any]) -> dict[str, Any]:
    """The engine's JSON for a parsed source.

    ``defaultErrnoRet`` is left out: engines before 23.0 do not know it, and EPERM is what all of them answer without it.
    """
    rules = [_rule(group, "SCMP_ACT_ALLOW") for group in source["allow"]]
    rules += [_rule(group, "SCMP_ACT_ALLOW", args=_conditions(group)) for group in source["allow_when"]]
    rules += [_rule(group, "SCMP_ACT_ERRNO", errnoRet=ENOSYS) for group in source["absent"]]
    _refuse_duplicates(rules)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        # A map, not a list: engines then compile the filter for the machine's own architecture only.
        "archMap": [{"architecture": ARCHITECTURES[a], "subArchitectures": []} for a in source["architectures"]],
        "syscalls": rules,
    }


def _rule(group: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
    return {"names": sorted(group["calls"].split()), "action": action, **more, "comment": group["why"]}


def _conditions(group: dict[str, Any]) -> list[dict[str, Any]]:
    return [_condition(c) for c in group.get("all", [group])]


def _condition(c: dict[str, Any]) -> dict[str, Any]:
    if "mask" in c:
        return {"index": c["argument"], "value": c["mask"], "valueTwo": c["equals"], "op": "SCMP_CMP_MASKED_EQ"}
    return {"index": c["argument"], "value": c["equals"], "op": "SCMP_CMP_EQ"}


def _refuse_duplicates(rules: list[dict[str, Any]]) -> None:
    """An unconditional rule would swallow a conditional one for the same call without a word."""
    seen: dict[str, bool] = {}
    for rule in rules:
        for name in rule["names"]:
            conditional = "args" in rule
            if name in seen and not (conditional and seen[name]):
                raise ProfileInvalid(f"system call {name} stands in two rules", remedy="keep one of them")
            seen[name] = conditional


def read_source(name: str = "default") -> dict[str, Any]:
    source: dict[str, Any] = YAML(typ="safe").load(SECCOMP_DIR / f"{name}.yaml")
    return source


def to_json(profile: dict[str, Any]) -> bytes:
    return (json.dumps(profile, indent=1) + "\n").encode()


if __name__ == "__main__":
    write_atomic(SECCOMP_DIR / "default.json", to_json(render(read_source())))
