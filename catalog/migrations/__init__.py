"""Alembic migrations of the catalog's tables; ``catalog.store`` runs them."""
