"""The catalog's tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _advisories_and_papers()
    _sources()
    _judgements()
    _entries()
    _tags_and_versions()
    _parts_of_versions()
    op.execute("INSERT INTO catalog_state (id, revision, advisories) VALUES (1, 1, 1)")
    op.execute("INSERT INTO catalog_registry (name, title) VALUES ('default', 'Everything')")


def _advisories_and_papers() -> None:
    op.create_table(
        "catalog_advisory",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("modified", sa.String(), nullable=False),
        sa.Column("published", sa.String(), nullable=False),
        sa.Column("withdrawn", sa.String(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("vector", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "catalog_component",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("purl", sa.String(length=1024), nullable=False),
        sa.Column("purl_type", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest", "purl"),
    )
    op.create_index(op.f("ix_catalog_component_digest"), "catalog_component", ["digest"], unique=False)
    op.create_index(
        "ix_catalog_component_package", "catalog_component", ["purl_type", "namespace", "name"], unique=False
    )

    op.create_table(
        "catalog_evidence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("bundle", sa.String(length=80), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest", "kind"),
    )
    op.create_index(op.f("ix_catalog_evidence_digest"), "catalog_evidence", ["digest"], unique=False)


def _sources() -> None:
    op.create_table(
        "catalog_registry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "catalog_source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("position", sa.JSON(), nullable=False),
        sa.Column("synced_at", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.String(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("last_report", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "catalog_state",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("advisories", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "catalog_tag",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _judgements() -> None:
    op.create_table(
        "catalog_vex",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_name", sa.String(length=255), nullable=False),
        sa.Column("vulnerability", sa.String(length=128), nullable=False),
        sa.Column("justification", sa.String(length=64), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("entry_name", "vulnerability"),
    )
    op.create_table(
        "catalog_affected",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("advisory_id", sa.String(length=128), nullable=False),
        sa.Column("purl_type", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["advisory_id"], ["catalog_advisory.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_catalog_affected_advisory_id"), "catalog_affected", ["advisory_id"], unique=False)
    op.create_index("ix_catalog_affected_package", "catalog_affected", ["purl_type", "namespace", "name"], unique=False)


def _entries() -> None:
    op.create_table(
        "catalog_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("publisher", sa.String(length=255), nullable=False),
        sa.Column("licence", sa.String(length=255), nullable=False),
        sa.Column("homepage", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("icon", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("network", sa.String(length=16), nullable=False),
        sa.Column("needs_secrets", sa.Boolean(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("runnable", sa.Boolean(), nullable=False),
        sa.Column("first_seen_at", sa.String(), nullable=False),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.Column("seen_in", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["catalog_source.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source_id", "name"),
    )
    op.create_index("ix_catalog_entry_name", "catalog_entry", ["name"], unique=False)
    op.create_index(op.f("ix_catalog_entry_source_id"), "catalog_entry", ["source_id"], unique=False)

    op.create_table(
        "catalog_registry_source",
        sa.Column("registry_id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["registry_id"], ["catalog_registry.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source_id"], ["catalog_source.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("registry_id", "source_id"),
    )
    op.create_table(
        "catalog_unread",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["catalog_source.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_catalog_unread_source_id"), "catalog_unread", ["source_id"], unique=False)


def _tags_and_versions() -> None:
    op.create_table(
        "catalog_entry_tag",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["catalog_entry.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tag_id"], ["catalog_tag.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("entry_id", "tag_id"),
    )
    op.create_table(
        "catalog_entry_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=255), nullable=False),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("published_at", sa.String(), nullable=False),
        sa.Column("updated_at", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("upstream_meta", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("readme", sa.Text(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("keywords", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["catalog_entry.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("entry_id", "version"),
    )
    op.create_index(op.f("ix_catalog_entry_version_entry_id"), "catalog_entry_version", ["entry_id"], unique=False)


def _parts_of_versions() -> None:
    op.create_table(
        "catalog_finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["catalog_entry_version.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_catalog_finding_code"), "catalog_finding", ["code"], unique=False)
    op.create_index(op.f("ix_catalog_finding_version_id"), "catalog_finding", ["version_id"], unique=False)

    op.create_table(
        "catalog_image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["catalog_entry_version.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_catalog_image_digest"), "catalog_image", ["digest"], unique=False)
    op.create_index(op.f("ix_catalog_image_version_id"), "catalog_image", ["version_id"], unique=False)

    op.create_table(
        "catalog_tool",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["catalog_entry_version.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_catalog_tool_version_id"), "catalog_tool", ["version_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_catalog_tool_version_id"), table_name="catalog_tool")

    op.drop_table("catalog_tool")
    op.drop_index(op.f("ix_catalog_image_version_id"), table_name="catalog_image")
    op.drop_index(op.f("ix_catalog_image_digest"), table_name="catalog_image")

    op.drop_table("catalog_image")
    op.drop_index(op.f("ix_catalog_finding_version_id"), table_name="catalog_finding")
    op.drop_index(op.f("ix_catalog_finding_code"), table_name="catalog_finding")

    op.drop_table("catalog_finding")
    op.drop_index(op.f("ix_catalog_entry_version_entry_id"), table_name="catalog_entry_version")

    op.drop_table("catalog_entry_version")
    op.drop_table("catalog_entry_tag")
    op.drop_index(op.f("ix_catalog_unread_source_id"), table_name="catalog_unread")

    op.drop_table("catalog_unread")
    op.drop_table("catalog_registry_source")
    op.drop_index(op.f("ix_catalog_entry_source_id"), table_name="catalog_entry")
    op.drop_index("ix_catalog_entry_name", table_name="catalog_entry")

    op.drop_table("catalog_entry")
    op.drop_index("ix_catalog_affected_package", table_name="catalog_affected")
    op.drop_index(op.f("ix_catalog_affected_advisory_id"), table_name="catalog_affected")

    op.drop_table("catalog_affected")
    op.drop_table("catalog_vex")
    op.drop_table("catalog_tag")
    op.drop_table("catalog_state")
    op.drop_table("catalog_source")
    op.drop_table("catalog_registry")
    op.drop_index(op.f("ix_catalog_evidence_digest"), table_name="catalog_evidence")

    op.drop_table("catalog_evidence")
    op.drop_index("ix_catalog_component_package", table_name="catalog_component")
    op.drop_index(op.f("ix_catalog_component_digest"), table_name="catalog_component")

    op.drop_table("catalog_component")
    op.drop_table("catalog_advisory")
