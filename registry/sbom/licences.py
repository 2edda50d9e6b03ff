"""Licence texts as found -> CycloneDX licences: SPDX where they are valid SPDX, else named."""

from __future__ import annotations

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.exception.factory import InvalidLicenseExpressionException
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.spdx import fixup_id, is_expression

_MAX_NAME = 300


def licences(found: tuple[str, ...]) -> list[License]:
    """One expression when all are SPDX (several apply together: AND); else each for itself (the schema mixes no further)."""
    factory = LicenseFactory()
    clean = sorted({" ".join(value.split())[:_MAX_NAME] for value in found if value.strip()})
    if len(clean) > 1 or (clean and fixup_id(clean[0]) is None):
        try:
            return [factory.make_with_expression(" AND ".join(_member(v, len(clean)) for v in clean))]
        except InvalidLicenseExpressionException:
            pass
    return [_single(value) for value in clean]


def _single(value: str) -> DisjunctiveLicense:
    spdx = fixup_id(value)
    return DisjunctiveLicense(id=spdx) if spdx else DisjunctiveLicense(name=value)


def _member(value: str, count: int) -> str:
    spdx = fixup_id(value)
    if spdx:
        return spdx
    compound = count > 1 and is_expression(value) and (" " in value)
    return f"({value})" if compound else value
