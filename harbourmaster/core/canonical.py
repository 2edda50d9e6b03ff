"""Canonical JSON (RFC 8785, JCS): the one byte string that is hashed for pins, profiles, policies and the audit."""

from __future__ import annotations

from typing import Any

import rfc8785

from harbourmaster.core.digests import sha256


def canonical(value: Any) -> bytes:
    return rfc8785.dumps(value)


def canonical_digest(value: Any) -> str:
    return sha256(canonical(value))
