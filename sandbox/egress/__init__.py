"""The way out of a sandbox that has no network: rules, the relay beside it, the broker that decides and counts."""
