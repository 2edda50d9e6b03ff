"""Profiles: which servers and tools a client sees, with what configuration (docs/profiles.md)."""
