"""``not_affected`` of a ``server.yaml``: known vulnerabilities that do not matter in this server, and why.

Justifications are those of OpenVEX 0.2.0 and CISA's "Status Justifications" (2022).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from registry.fields import Strict

JUSTIFICATIONS = {
    "component_not_present": "the package is not in the image",
    "vulnerable_code_not_present": "the package is there without the vulnerable code",
    "vulnerable_code_not_in_execute_path": "the vulnerable code never runs",
    "vulnerable_code_cannot_be_controlled_by_adversary": "nobody hostile can reach the vulnerable code",
    "inline_mitigations_already_exist": "something else already prevents it",
}


class NotAffected(Strict):
    """One vulnerability that a person looked at; reviewed with the entry."""

    vulnerability: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*-[A-Za-z0-9:_.-]{1,120}$")]
    because: Literal[tuple(JUSTIFICATIONS)]  # type: ignore[valid-type]
    statement: Annotated[str, StringConstraints(min_length=10, max_length=1000)]
