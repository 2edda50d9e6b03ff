"""REST: statements about known vulnerabilities."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from catalog.vulnerabilities.statements import JUSTIFICATIONS
from web import judging
from web.render import harbour_of
from web.requests import ApiAdmin

router = APIRouter(prefix="/api/vulnerabilities", tags=["change"])


class Subject(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: str
    vulnerability: str = Field(min_length=1, description="CVE, GHSA or another identifier")


class NotAffected(Subject):
    because: str = Field(description=f"one of: {', '.join(JUSTIFICATIONS)} (OpenVEX 0.2.0)")
    statement: str = Field(description="in a sentence")


@router.post("/not-affected")
def not_affected(request: Request, who: ApiAdmin, body: NotAffected) -> dict[str, Any]:
    """As `hm catalog vulnerabilities not-affected`."""
    judging.not_affected(harbour_of(request), who, body.server, body.vulnerability, body.because, body.statement)
    return {"not_affected": body.vulnerability}


@router.post("/withdraw")
def withdraw(request: Request, who: ApiAdmin, body: Subject) -> dict[str, Any]:
    """It counts again."""
    judging.counts_again(harbour_of(request), who, body.server, body.vulnerability)
    return {"counts_again": body.vulnerability}
