"""Reserved: see docs/architecture.md."""
