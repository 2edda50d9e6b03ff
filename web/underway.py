"""What the running gateway says of itself: ``GET /admin/status`` (gateway/edges/admin.py), with this home's own token."""

from __future__ import annotations

from typing import Any

import httpx2

from gateway.tokens import TokenStore
from harbourmaster.core.running import SeveralGateways, gateway_url
from harbourmaster.core.settings import Settings

TIMEOUT_S = 1.0  # it is on this machine, and answers from memory


def underway(settings: Settings) -> dict[str, Any] | None:
    """``{sessions, leases, pool, gateway}``, or None where no gateway answers to that."""
    if not settings.tokens_file.exists():
        return None
    headers = {"authorization": f"Bearer {TokenStore(settings.tokens_file).default()}"}
    try:
        answer = httpx2.get(
            gateway_url(settings).removesuffix("/mcp") + "/admin/status",
            headers=headers,
            timeout=TIMEOUT_S,
            trust_env=False,
            verify=False,
        )
        body = answer.json() if answer.status_code == 200 else None
    except (httpx2.HTTPError, SeveralGateways, ValueError):
        return None
    return body if isinstance(body, dict) and isinstance(body.get("sessions"), list) else None
