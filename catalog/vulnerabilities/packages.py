"""One name for one package: what advisories, SBOMs and people call it, brought to the same form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packageurl import PackageURL

# OSV ecosystem -> purl type and namespace.  Sources: ossf.github.io/osv-schema (defined ecosystems), package-url/purl-spec types.
_ECOSYSTEMS: dict[str, tuple[str, str]] = {
    "pypi": ("pypi", ""),
    "npm": ("npm", ""),
    "go": ("golang", ""),
    "maven": ("maven", ""),
    "crates.io": ("cargo", ""),
    "rubygems": ("gem", ""),
    "nuget": ("nuget", ""),
    "packagist": ("composer", ""),
    "hex": ("hex", ""),
    "debian": ("deb", "debian"),
    "ubuntu": ("deb", "ubuntu"),
    "alpine": ("apk", "alpine"),
    "wolfi": ("apk", "wolfi"),
    "chainguard": ("apk", "chainguard"),
}
_SEPARATED = {"npm": "/", "golang": "/", "maven": ":", "composer": "/"}
_FOLDED = frozenset({"npm", "composer", "gem", "nuget", "deb", "apk", "golang"})


@dataclass(frozen=True, slots=True)
class PackageKey:
    """What a component and an advisory must have in common."""

    purl_type: str
    namespace: str
    name: str
    release: str = ""


def of_ecosystem(ecosystem: str, name: str) -> PackageKey | None:
    """``("Debian:12", "openssl")`` -> its key; None for an ecosystem whose versions nobody here can compare."""
    family, _, release = ecosystem.partition(":")
    found = _ECOSYSTEMS.get(family.lower())
    if found is None:
        return None
    kind, namespace = found
    if kind in _SEPARATED:
        namespace, _, name = name.rpartition(_SEPARATED[kind])
    return _key(kind, namespace, name, _release(release))


def of_purl(purl: PackageURL) -> PackageKey:
    qualifiers = purl.qualifiers if isinstance(purl.qualifiers, dict) else {}
    distro = str(qualifiers.get("distro", ""))
    return _key(str(purl.type), str(purl.namespace or ""), str(purl.name), _release(distro))


def _key(kind: str, namespace: str, name: str, release: str = "") -> PackageKey:
    if kind == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()  # PEP 503
    elif kind in _FOLDED:
        namespace, name = namespace.lower(), name.lower()
    return PackageKey(kind, namespace[:255], name[:255], release)


def _release(text: str) -> str:
    """``debian-12`` and ``12`` -> ``12``; ``v3.18`` and ``alpine-3.18.4`` -> ``3.18``; ``22.04:LTS`` -> ``22.04``."""
    found = re.search(r"\d+(?:\.\d+)?", text)
    return found.group() if found else ""
