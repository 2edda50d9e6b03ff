"""The catalog's tables.

``document`` is what a source wrote, byte for byte; every other column of an entry is derived from it and may be
derived again.  Times are UTC, ISO 8601 with ``Z``: the same text in both databases, and it sorts.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

NAME_CHARS = 255


def _cascade(target: str, *, primary_key: bool = False, index: bool = True) -> Any:
    return Field(
        sa_column=Column(
            Integer,
            ForeignKey(target, ondelete="CASCADE"),
            primary_key=primary_key,
            nullable=False,
            index=index and not primary_key,
        )
    )


def _text(default: str = "") -> Any:
    return Field(default=default, sa_type=Text)


def _json(default: Any = list) -> Any:
    return Field(default_factory=default, sa_column=Column(JSON, nullable=False))


class Registry(SQLModel, table=True):
    """A named view over sources, in an order: where two sources have one name, the first wins."""

    __tablename__ = "catalog_registry"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=NAME_CHARS, unique=True)
    title: str = _text()


class Source(SQLModel, table=True):
    """A place that entries come from."""

    __tablename__ = "catalog_source"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=NAME_CHARS, unique=True)
    kind: str = Field(max_length=32)
    location: str = _text()
    position: dict[str, Any] = _json(dict)
    """Where the next sync goes on: cursor and ``updated_since`` of an API, nothing for folders."""
    synced_at: str = ""
    attempts: int = 0
    """Failed syncs in a row: the backoff's exponent."""
    next_attempt_at: str = ""
    last_error: str = _text()
    last_report: dict[str, Any] = _json(dict)


class Unread(SQLModel, table=True):
    """Something a source offered that could not be read, as of its last sync."""

    __tablename__ = "catalog_unread"
    id: int | None = Field(default=None, primary_key=True)
    source_id: int = _cascade("catalog_source.id")
    name: str = _text()
    code: str = Field(max_length=64)
    message: str = _text()
    remedy: str = _text()


class RegistrySource(SQLModel, table=True):
    __tablename__ = "catalog_registry_source"
    registry_id: int = _cascade("catalog_registry.id", primary_key=True)
    source_id: int = _cascade("catalog_source.id", primary_key=True)
    position: int = 0


class CatalogEntry(SQLModel, table=True):
    """A server as one source describes it; the columns people filter on are those of its latest version."""

    __tablename__ = "catalog_entry"
    __table_args__: ClassVar[Any] = (UniqueConstraint("source_id", "name"), Index("ix_catalog_entry_name", "name"))
    id: int | None = Field(default=None, primary_key=True)
    source_id: int = _cascade("catalog_source.id")
    name: str = Field(max_length=NAME_CHARS)
    title: str = _text()
    description: str = _text()
    kind: str = Field(max_length=16)
    category: str = Field(max_length=64)
    tier: str = Field(max_length=16)
    publisher: str = Field(default="", max_length=NAME_CHARS)
    licence: str = Field(default="", max_length=NAME_CHARS)
    homepage: str = _text()
    repository: str = _text()
    icon: str = _text()
    status: str = Field(default="active", max_length=16)
    status_message: str = _text()
    network: str = Field(default="undeclared", max_length=16)
    needs_secrets: bool = False
    read_only: bool = False
    runnable: bool = True
    """No finding of severity ``error``: it can run safely as written."""
    first_seen_at: str = ""
    updated_at: str = ""
    seen_in: str = Field(default="", max_length=64)
    """The sync that saw it last; entries that a complete listing no longer has are withdrawn by it."""


class EntryVersion(SQLModel, table=True):
    __tablename__ = "catalog_entry_version"
    __table_args__: ClassVar[Any] = (UniqueConstraint("entry_id", "version"),)
    id: int | None = Field(default=None, primary_key=True)
    entry_id: int = _cascade("catalog_entry.id")
    version: str = Field(max_length=NAME_CHARS)
    is_latest: bool = True
    status: str = Field(default="active", max_length=16)
    published_at: str = ""
    updated_at: str = ""
    media_type: str = Field(default="", max_length=NAME_CHARS)
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    upstream_meta: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    digest: str = Field(max_length=80)
    """sha256 over all that the reader read for this version; the same digest again means nothing to do."""
    readme: str = _text()
    permissions: dict[str, Any] = _json(dict)
    keywords: str = _text()
    """Words for search that are no prose: parameter names, hosts, package identifiers."""


class Tool(SQLModel, table=True):
    __tablename__ = "catalog_tool"
    id: int | None = Field(default=None, primary_key=True)
    version_id: int = _cascade("catalog_entry_version.id")
    position: int = 0
    name: str = Field(max_length=NAME_CHARS)
    description: str = _text()
    arguments: list[dict[str, Any]] = _json()
    annotations: dict[str, Any] = _json(dict)


class Tag(SQLModel, table=True):
    __tablename__ = "catalog_tag"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=64, unique=True)


class EntryTag(SQLModel, table=True):
    __tablename__ = "catalog_entry_tag"
    entry_id: int = _cascade("catalog_entry.id", primary_key=True)
    tag_id: int = _cascade("catalog_tag.id", primary_key=True)


class FindingRow(SQLModel, table=True):
    """What was wrong or odd in a document, and what to do about it."""

    __tablename__ = "catalog_finding"
    id: int | None = Field(default=None, primary_key=True)
    version_id: int = _cascade("catalog_entry_version.id")
    code: str = Field(max_length=64, index=True)
    severity: str = Field(max_length=16)
    path: str = _text()
    line: int | None = None
    message: str = _text()
    remedy: str = _text()


class Image(SQLModel, table=True):
    """An image that a version names; ``digest`` is empty where the document pins none."""

    __tablename__ = "catalog_image"
    id: int | None = Field(default=None, primary_key=True)
    version_id: int = _cascade("catalog_entry_version.id")
    reference: str = _text()
    digest: str = Field(default="", max_length=80, index=True)


class EvidenceFact(SQLModel, table=True):
    """One thing that was verified about an image: kept by digest, so that it outlives entries."""

    __tablename__ = "catalog_evidence"
    __table_args__: ClassVar[Any] = (UniqueConstraint("digest", "kind"),)
    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(max_length=80, index=True)
    kind: str = Field(max_length=32)
    """``signature``, ``sbom``, ``provenance``, ``listing``."""
    bundle: str = Field(default="", max_length=80)
    by: str = _text()
    policy: str = _text()
    verified_at: str = ""


class Component(SQLModel, table=True):
    """A package inside an image, from its SBOM; type, namespace, name and version as advisories write them."""

    __tablename__ = "catalog_component"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("digest", "purl"),
        Index("ix_catalog_component_package", "purl_type", "namespace", "name"),
    )
    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(max_length=80, index=True)
    purl: str = Field(max_length=1024)
    purl_type: str = Field(max_length=32)
    namespace: str = Field(default="", max_length=NAME_CHARS)
    name: str = Field(max_length=NAME_CHARS)
    version: str = Field(default="", max_length=NAME_CHARS)
    release: str = Field(default="", max_length=64)
    licence: str = _text()


class Advisory(SQLModel, table=True):
    """An OSV record, reduced to what matching and showing need."""

    __tablename__ = "catalog_advisory"
    id: str = Field(primary_key=True, max_length=128)
    modified: str = ""
    published: str = ""
    withdrawn: str = ""
    summary: str = _text()
    aliases: list[str] = _json()
    severity: str = Field(default="unknown", max_length=16)
    score: float | None = None
    vector: str = _text()
    digest: str = Field(max_length=80)
    origin: str = _text()


class AffectedPackage(SQLModel, table=True):
    __tablename__ = "catalog_affected"
    __table_args__: ClassVar[Any] = (Index("ix_catalog_affected_package", "purl_type", "namespace", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    advisory_id: str = Field(
        sa_column=Column(String(128), ForeignKey("catalog_advisory.id", ondelete="CASCADE"), nullable=False, index=True)
    )
    purl_type: str = Field(max_length=32)
    namespace: str = Field(default="", max_length=NAME_CHARS)
    name: str = Field(max_length=NAME_CHARS)
    release: str = Field(default="", max_length=64)
    """Of a distribution: ``12`` of ``Debian:12``; empty where an advisory speaks of every release."""
    ranges: list[dict[str, Any]] = _json()
    versions: list[str] = _json()


class VexStatement(SQLModel, table=True):
    """Not affected, because: said by a person about one entry and one vulnerability."""

    __tablename__ = "catalog_vex"
    __table_args__: ClassVar[Any] = (UniqueConstraint("entry_name", "vulnerability"),)
    id: int | None = Field(default=None, primary_key=True)
    entry_name: str = Field(max_length=NAME_CHARS)
    vulnerability: str = Field(max_length=128)
    justification: str = Field(max_length=64)
    statement: str = _text()
    author: str = _text()
    made_at: str = ""


class Embedding(SQLModel, table=True):
    """The vector of a text in the space of a model; found by the digest of both, so that an unchanged text is kept."""

    __tablename__ = "catalog_embedding"
    digest: str = Field(primary_key=True, max_length=80)
    model: str = Field(max_length=NAME_CHARS)
    vector: bytes
    """Little-endian float16, as many as the model has dimensions; length 1 but for rounding."""


class CatalogState(SQLModel, table=True):
    """One row: the revision that every change to the catalog raises, so that indexes know when they are old."""

    __tablename__ = "catalog_state"
    id: int = Field(default=1, primary_key=True)
    revision: int = 0
    advisories: int = 0
    """The revision at which advisories, components or statements last changed."""
