"""A publisher's image: its digest now, and what its configuration says of itself."""

from __future__ import annotations

from registry.dialect import full_reference
from registry.lookup.found import Found, clean, slug, title_of, web_address
from registry.oci.reference import Reference
from registry.oci.remote import Remote

_LABEL = "org.opencontainers.image."  # OCI image-spec 1.1, annotations.md


def look_up(reference: str) -> Found:
    """Raises what the registry is refused for: ``RemoteNotFound``, ``RemoteUnavailable`` and their kin."""
    name = Reference.parse(full_reference(reference))
    digest, config = Remote().describe(str(name))
    tag = f":{name.tag}" if name.tag else ""
    said = config.get("config")
    settings = said if isinstance(said, dict) else {}
    labels = settings.get("Labels") or {}
    short = slug(name.name)
    notes = ["which hosts it needs nobody says: list them under run.network.hosts (hm sandbox learn finds them)"]
    if not settings.get("User") or str(settings.get("User")).split(":")[0] in ("0", "root"):
        notes.append("it wants to run as root; it runs as 65532 here, which some images do not expect")
    return Found(
        name=short,
        title=clean(labels.get(f"{_LABEL}title"), 60) or title_of(short),
        description=clean(labels.get(f"{_LABEL}description"), 1000),
        licence=clean(labels.get(f"{_LABEL}licenses"), 60),
        homepage=web_address(labels.get(f"{_LABEL}source"), labels.get(f"{_LABEL}url")),
        image=f"{name.host}/{name.name}{tag}@{digest}",
        notes=tuple(notes),
    )
