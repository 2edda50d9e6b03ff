"""Full-text search over the catalog: one in-memory index per registry, built from the database, the same on SQLite and PostgreSQL."""
