"""REST: what people decide: about known vulnerabilities, and about calls that wait for them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from catalog.vulnerabilities.statements import JUSTIFICATIONS
from web import deeds, judging
from web.render import harbour_of
from web.requests import ApiAdmin, ApiOperator

router = APIRouter(prefix="/api", tags=["decide"])


class Subject(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: str
    vulnerability: str = Field(min_length=1, description="CVE, GHSA or another identifier")


class NotAffected(Subject):
    because: str = Field(description=f"one of: {', '.join(JUSTIFICATIONS)} (OpenVEX 0.2.0)")
    statement: str = Field(description="in a sentence")


@router.post("/vulnerabilities/not-affected")
def not_affected(request: Request, who: ApiAdmin, body: NotAffected) -> dict[str, Any]:
    """As `hm catalog vulnerabilities not-affected`."""
    judging.not_affected(harbour_of(request), who, body.server, body.vulnerability, body.because, body.statement)
    return {"not_affected": body.vulnerability}


@router.post("/vulnerabilities/withdraw")
def withdraw(request: Request, who: ApiAdmin, body: Subject) -> dict[str, Any]:
    """It counts again."""
    judging.counts_again(harbour_of(request), who, body.server, body.vulnerability)
    return {"counts_again": body.vulnerability}


@router.post("/waiting/{identity}/allow")
def allow(request: Request, who: ApiOperator, identity: str) -> dict[str, Any]:
    """As `hm approve yes ID`: this one call."""
    deeds.answer_call(harbour_of(request), who, identity, yes=True)
    return {"allowed": identity}


@router.post("/waiting/{identity}/refuse")
def refuse(request: Request, who: ApiOperator, identity: str) -> dict[str, Any]:
    """As `hm approve no ID`."""
    deeds.answer_call(harbour_of(request), who, identity, yes=False)
    return {"refused": identity}
